"""Diagnostics of the checker, each with its explanation, a wrong and a right example."""
