"""Baselines under the same requirements as the exact search."""
