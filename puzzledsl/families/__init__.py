"""Model families, one file each and without torch: the shape that a config.json describes, and where the weights are."""
