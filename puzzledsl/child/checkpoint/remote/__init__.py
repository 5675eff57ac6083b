"""Code that travels inside an exported checkpoint. Nothing here is imported by puzzledsl: it is copied."""
