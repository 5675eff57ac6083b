"""Lowering of declarations, one function per kind: syntax tree to IR node."""
