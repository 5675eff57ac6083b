"""Text to syntax tree and back. Knows nothing of what a program means."""
