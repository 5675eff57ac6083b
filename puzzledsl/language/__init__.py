"""The vocabulary of the language as data: kinds, settings, words and calls. Every other folder reads these tables."""
