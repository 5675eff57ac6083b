"""Words of the language with their meanings, for completion and hover."""
