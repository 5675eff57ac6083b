"""Checks of a whole program, after all of its declarations are lowered."""
