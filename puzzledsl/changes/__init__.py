"""Comparison of two programs: changed declarations, and pieces to make."""
