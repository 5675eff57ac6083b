"""Alternatives as modules: one file for each, with its initial weights. `registry` finds them, also those of packages."""
