"""Scoring on the workers of a cluster."""
