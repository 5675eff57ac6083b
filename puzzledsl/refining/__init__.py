"""Whole children around the optimum of a sum of scores: healed, measured, and the scores refitted to them."""
