"""Conversion of text to the syntax tree and back. Independent of the meaning of programs.

Lark is imported here, before any module needs it, without the optional packages `regex` and `interegular`. Lark would
import both where they are installed, as they are beside transformers, and compare all words of the grammar by pairs. That
takes longer than parsing a program; tables that are loaded need neither. Other packages find them as before.
"""

from __future__ import annotations

import sys

_hidden = [name for name in ("regex", "interegular") if name not in sys.modules]
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import lark  # noqa: F401
finally:
    for _name in _hidden:
        del sys.modules[_name]
