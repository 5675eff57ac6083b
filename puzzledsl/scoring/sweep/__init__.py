"""Replacements measured in one pass up a model: in which order, in how many threads, and from which streams."""
