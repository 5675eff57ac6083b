"""Figures for papers: all of them, the same bytes each time, and text that can be searched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import Program
from puzzledsl.report.artefacts import Artefacts, load_artefacts
from puzzledsl.report.pictures.figures import write_figures
from tests.report.variants import VARIANTS


def test_the_child_and_its_frontiers_as_svg_and_png(built: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = load_artefacts(built.program, built.build)
    first = write_figures(found, tmp_path / "a")
    assert {path.stem.split("-")[0] for path in first} == {"architecture", "frontier"}
    assert {path.suffix for path in first} == {".svg", ".png"}
    assert "<text" in (tmp_path / "a" / "architecture.svg").read_text()
    again = write_figures(found, tmp_path / "b")
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
        assert one.read_bytes()[:4] in (b"\x89PNG", b"<?xm")


def test_figures_have_the_series_of_measured_children(built: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    labels = {
        "along_plain": (
            "best measured",
            "optimum of the scores, measured",
            "sum of scores, proven",
            "kl, logarithmic",
        ),
        "finished": ("frontier, proven",),
    }
    for name, texts in labels.items():
        pictures = write_figures(VARIANTS[name](built), tmp_path / name)
        drawn = "".join(path.read_text() for path in pictures if path.suffix == ".svg")
        assert all(f">{text}</text>" in drawn for text in texts), name


def test_an_empty_build_has_none(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert write_figures(Artefacts(Program(source="empty.pzl")), tmp_path / "none") == []


def test_without_matplotlib_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DiagnosticError) as caught:
        write_figures(Artefacts(Program(source="empty.pzl")), tmp_path)
    assert caught.value.diagnostics[0].code == "E0661"
