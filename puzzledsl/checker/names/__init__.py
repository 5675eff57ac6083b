"""Names: files, `use`, scopes, and help for names that are missing or misplaced."""
