"""Alternatives of a sub-block: one file for each, without torch. `registry` finds them, those of installed packages too."""
