"""Refine a search: heal and measure whole children around its optimum, and refit the scores to the measured losses."""
