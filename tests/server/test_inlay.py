"""Inlay hints say the figures of the cost tables."""

from __future__ import annotations

from pathlib import Path

from lsprotocol import types

from puzzledsl.server.costs import inlay_hints
from puzzledsl.server.document import Document, Project
from puzzledsl.server.hover import hover
from tests.server.texts import NEMOTRON, PROGRAM, opened, place_of


def hints(document: Document, first: int = 0, last: int = 10_000) -> dict[str, str]:
    """The text before each hint, from the last ` `-separated word or `|` on, and the hint."""
    found = {}
    for hint in inlay_hints(document, types.Range(types.Position(first, 0), types.Position(last, 0))):
        line = document.lines.lines[hint.position.line][: hint.position.character]
        found[line.split(" | ")[-1].split(" = ")[-1].removeprefix("  require ").strip()] = str(hint.label)
    return found


def test_metrics_show_the_value_that_their_hover_does() -> None:
    document = Project().document(NEMOTRON)
    assert document is not None
    found = hints(document)
    for metric in ("chat.memory", "chat.throughput", "rag.latency", "think.kv_cache"):
        line, column = place_of(document.text, metric)
        for offset in (1, len(metric) - 1):
            shown = hover(document, line, column + offset)
            assert shown is not None and isinstance(shown.contents, types.MarkupContent)
            assert f"`{metric}`" in shown.contents.value
            assert found[metric].replace("parent ", "the parent: ") in shown.contents.value


def test_options_show_what_they_keep_of_the_parent(tmp_path: Path) -> None:
    document = opened(PROGRAM, tmp_path)
    found = hints(document)
    assert found["chat.memory"].startswith("parent ")
    assert "noop" not in found
    whole = hints(opened(PROGRAM.replace("width: 100% | 50%", "width: 50%"), tmp_path))
    assert whole["mlp(width: 50%)"].startswith("50.1% params, ")  # of the weights half, of the norm all
    own = hints(opened(PROGRAM.replace("mlp(width: 100% | 50%)", "parent"), tmp_path))
    assert "parent" not in own  # all of it


def test_only_the_lines_that_are_asked_for(tmp_path: Path) -> None:
    document = opened(PROGRAM, tmp_path)
    line = place_of(PROGRAM, "require chat.memory")[0]
    assert set(hints(document, line - 1, line - 1)) == {"chat.memory"}
    assert hints(document, 0, 2) == {}


def test_a_broken_program_has_the_hints_that_are_known(tmp_path: Path) -> None:
    broken = PROGRAM.replace("minimize kl", "minimize (")
    assert "chat.memory" in hints(opened(broken, tmp_path))
