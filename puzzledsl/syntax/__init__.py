"""Conversion of text to the syntax tree and back. Independent of the meaning of programs."""
