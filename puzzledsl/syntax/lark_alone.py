"""Lark without the optional packages `regex` and `interegular`.

Lark imports both where they are installed, as they are beside transformers, and compares all words of the grammar by pairs.
That takes longer than parsing a program; tables that are loaded need neither. Other packages find them as before.
"""

from __future__ import annotations

import sys

_hidden = [name for name in ("regex", "interegular") if name not in sys.modules]
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import lark
    from lark import Lark, Token, Tree
    from lark.parsers.lalr_analysis import Shift
finally:
    for _name in _hidden:
        del sys.modules[_name]

__all__ = ["Lark", "Shift", "Token", "Tree", "lark"]
