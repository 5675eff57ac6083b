"""What MkDocs does besides: the tags that `tests/test_docs.py` reads behind a fence's language are no part of the page."""

from __future__ import annotations

import re
from typing import Any

_FENCE = re.compile(r"^( *)```(\w+)[ \t]+([^\n`]+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with every fence's info string cut to its language; a program with mistakes gets the class `wrong`."""
    return _FENCE.sub(_fence, markdown)


def _fence(match: re.Match[str]) -> str:
    indent, language, tags = match.groups()
    if language == "pzl" and "wrong" in tags.split():
        return f"{indent}``` {{ .pzl .wrong }}"
    return f"{indent}```{language}"
