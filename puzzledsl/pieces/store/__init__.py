"""The block library: finished pieces as safetensors beside an append-only index."""
