"""One declaration kind a function: syntax tree to IR node."""
