"""Expressions: evaluation of constants, and symbolic values that a search decides."""
