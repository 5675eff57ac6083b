"""Spaces: choices, overrides, patterns and the parent's shape."""
