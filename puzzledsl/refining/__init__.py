"""The measured last mile: children around the optimum of a sum of scores are healed, measured, and the scores refitted to them."""
