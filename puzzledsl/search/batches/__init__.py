"""Branch and bound over boxes of batches."""
