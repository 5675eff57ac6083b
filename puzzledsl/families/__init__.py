"""Model families, without torch, those alike in one file: the shape that a config.json describes, and where the weights are."""
