"""docs/paper.md: every figure of it is that of docs/paper.json."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.paper.document import DOCUMENT, RESULTS, ROOT, TIMES, document, shown
from benchmarks.paper.figures import PICTURES
from benchmarks.paper.tables import tables

TABLES = tables()


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


def figures(value: Any) -> Iterator[dict[str, float]]:
    """Every figure with an interval in a result."""
    if isinstance(value, dict) and "low" in value:
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from figures(part)


def test_results_are_those_of_tables(results: dict[str, Any]) -> None:
    assert results.keys() == TABLES.keys()
    page = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"## {table.title}: " in page for table in TABLES.values())


def test_the_page_is_written_from_the_results(results: dict[str, Any]) -> None:
    times = json.loads(TIMES.read_text(encoding="utf-8"))
    assert DOCUMENT.read_text(encoding="utf-8") == document(results, times)


@pytest.mark.parametrize("name", TABLES)
def test_a_figure_that_changes_changes_the_page(name: str, results: dict[str, Any]) -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    for part in ("rows", "claims"):
        for index, _ in enumerate(list(figures(results[name][part]))):
            changed = copy.deepcopy(results)
            figure = list(figures(changed[name][part]))[index]
            assert shown(figure, TABLES[name].decimals) in page
            figure["value"] += 7
            assert shown(figure, TABLES[name].decimals) in document(changed, {})


def test_pictures_are_there(results: dict[str, Any]) -> None:
    for name in PICTURES.keys() & results.keys():
        assert (
            (ROOT / "docs" / "assets" / "paper" / f"{name}.svg")
            .read_text(encoding="utf-8")
            .startswith("<?xml")
        )
