"""ModelDefinition -> nn.Module: transformers' own model with modules replaced, never a forward pass of our own."""
