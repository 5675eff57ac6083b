"""Heuristics for good answers: repair by prices, and exchanges of columns."""
