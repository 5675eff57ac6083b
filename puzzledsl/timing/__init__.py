"""Time of a whole model's forward pass: `measure` scales block times to it, `evaluate` reports it."""
