"""Reserved words: declaration kinds (plain names to the grammar) and keywords."""

from __future__ import annotations

KINDS = (
    "parent",
    "data",
    "hardware",
    "scenario",
    "space",
    "bld",
    "score",
    "search",
    "frontier",
    "uptrain",
    "eval",
    "export",
)
"""Kinds of declarations: the first word of `KIND NAME …`."""

TOP_KEYWORDS = ("use", "param", "let", "fn", "assert")
"""Keywords that begin a top-level item."""

STATEMENT_KEYWORDS = ("require", "prefer", "minimize", "maximize", "solutions", "for", "let", "assert")
"""Keywords that begin a statement in a body."""

INNER_KEYWORDS = "as of on in where apart because if then else implies or and not is mod step".split()
"""Keywords that occur inside items and statements."""

KEYWORDS = frozenset((*TOP_KEYWORDS, *STATEMENT_KEYWORDS, *INNER_KEYWORDS))
"""Every reserved word."""
