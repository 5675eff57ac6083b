"""Notebooks of examples/ run without Jupyter, show what they hold, and are short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.notebooks import code_lines, executed, text_of
from tests.documents import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
MOST_LINES = 10


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_what_it_holds(path: Path) -> None:
    assert text_of(executed(path)) == path.read_text("utf-8"), "run `python scripts/notebooks.py`"


def test_a_file_is_a_plotted_frontier_in_few_lines() -> None:
    notebook = json.loads((ROOT / "examples" / "frontier.ipynb").read_text("utf-8"))
    assert len(code_lines(notebook)) <= MOST_LINES
    kinds = [kind for c in notebook["cells"] for o in c.get("outputs", ()) for kind in o["data"]]
    assert {"image/svg+xml", "text/html"} <= set(kinds)
