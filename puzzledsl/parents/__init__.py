"""Where each model family keeps its weights: a table a family, and how to load, address and build its modules."""
