"""Hooks of MkDocs: cut the tags of fences that only `tests/test_docs.py` reads, and publish the sources that pages link."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_SOURCE = re.compile(r"\]\(\.\./(puzzledsl/[\w/]+\.py)\)")
_FENCE = re.compile(r"^( *)```(\w+)[ \t]+([^\n`]+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Cut the info string of every fence to its language, and point links to source files at their copies in the site.

    A program with mistakes gets the class `wrong`.
    """
    return _SOURCE.sub(r"](\1)", _FENCE.sub(_fence, markdown))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every source file that a page in docs/ links."""
    pages = (page.read_text("utf-8") for page in Path(config.docs_dir).glob("*.md"))
    for source in sorted({source for page in pages for source in _SOURCE.findall(page)}):
        files.append(File.generated(config, source, abs_src_path=str(ROOT / source)))
    return files


def _fence(match: re.Match[str]) -> str:
    indent, language, tags = match.groups()
    if language == "pzl" and "wrong" in tags.split():
        return f"{indent}``` {{ .pzl .wrong }}"
    return f"{indent}```{language}"
