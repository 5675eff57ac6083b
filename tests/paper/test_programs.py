"""Every table and figure of the paper runs at toy size, twice with the same results."""

from __future__ import annotations

import json

import pytest

from benchmarks.paper.document import section
from benchmarks.paper.study import PROGRAMS, Study
from benchmarks.paper.tables import tables

TABLES = tables()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_runs_and_again_gives_the_same(name: str, study: Study) -> None:
    table = TABLES[name]
    result = table.run(study).as_json()
    assert result["rows"] and result["claims"]
    assert all(len(row) == len(result["columns"]) for row in result["rows"])
    made = sorted((study.build / "paper").iterdir())
    assert json.dumps(table.run(study).as_json()) == json.dumps(result)
    assert sorted((study.build / "paper").iterdir()) == made
    page = section(table, result, None)
    assert all(claim["statement"] in page for claim in result["claims"])


def test_every_program_has_a_table() -> None:
    programs = {path.name for path in PROGRAMS.glob("*.pzl")} - {"library.pzl"}
    assert programs == {table.program for table in TABLES.values()}
