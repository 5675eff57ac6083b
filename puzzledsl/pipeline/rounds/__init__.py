"""Tasks that solve again: narrowed spaces, refined scores, rounds of scoring."""
