"""Comparison of two programs: changed declarations, pieces to make, stages to run again."""
