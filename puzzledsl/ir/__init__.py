"""Semantic analysis: names, types, parent facts and lowering of the syntax tree.

`nodes.py` defines the lowered program; `tables.py` defines the artefacts that later stages exchange.
"""
