"""Objectives with terms for pairs of choices."""
