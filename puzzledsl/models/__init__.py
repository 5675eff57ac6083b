"""Parents and children as models: transformers' own, with replaced modules in a child, and no forward pass of our own."""
