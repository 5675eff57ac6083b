"""Checker: names, types, parent facts and lowering of the syntax tree to the IR."""
