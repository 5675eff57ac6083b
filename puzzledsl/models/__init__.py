"""Build child models from ModelDefinitions: transformers' own model with replaced modules, without a forward pass of our own."""
