"""The vocabulary of the language as data: kinds of declarations, settings, words and calls. All other folders read it."""
