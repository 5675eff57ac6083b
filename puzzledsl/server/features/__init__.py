"""Features of the language server, one module each."""
