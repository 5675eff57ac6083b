"""How long a whole model's forward pass takes: what `measure` scales its blocks to and what `evaluate` reports."""
