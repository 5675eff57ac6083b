"""Another tool's files are read in each of the shapes that it writes, and what is of none of them is named with its file."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.importing.imported import MAX_BYTES, read_artefacts

NOOP: dict[str, Any] = {"attention": {"no_op": True}}
MEASURED: dict[str, Any] = {"args": {}, "non_block": {}, "subblocks": []}


def said(path: Path) -> str:
    """The error of a path that cannot be imported."""
    with pytest.raises(DiagnosticError) as caught:
        read_artefacts(path)
    [told] = caught.value.diagnostics
    return f"{told.code} {told.message}"


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def at_layer(layer: int) -> dict[str, Any]:
    return {"puzzle_solution": {"single_block_replacement": {"block_idx": layer, "block_config": NOOP}}}


def test_both_ways_of_saying_what_was_validated(tmp_path: Path) -> None:
    sequence = {"parent_layer_indices": [2], "child_block_configs": [NOOP]}
    block = {"block_idx": 0, "block_config": NOOP}
    for number, solution in enumerate(
        ({"single_sequence_replacement": sequence}, {"single_block_replacement": block})
    ):
        entry = {"puzzle_solution": solution, "kl": {"avg": 0.5}, "no": {"avg": "x"}, "other": 3}
        written(tmp_path, f"validation/solution_{number}.json", entry)
    written(tmp_path, "validation/teacher.json", {"loss": {"avg": 2}, "args": {"seed": 1}})
    found = read_artefacts(tmp_path)
    assert [(r.layer, r.block, r.metrics) for r in found.replacements] == [
        (2, NOOP, {"kl": Decimal("0.5")}),
        (0, NOOP, {"kl": Decimal("0.5")}),
    ]
    assert (found.teacher_metrics, dict(found.args)) == ({"loss": Decimal(2)}, {"seed": 1})


@pytest.mark.parametrize(
    ("solution", "says"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ([], "`puzzle_solution` is missing"),
        ({"puzzle_solution": 3}, "`puzzle_solution` is missing"),
        ({"puzzle_solution": {}}, "neither `single_sequence_replacement` nor `single_block_replacement`"),
        (
            {"puzzle_solution": {"single_sequence_replacement": {"parent_layer_indices": [1, 2]}}},
            "it replaces several layers at once",
        ),
        (at_layer(-1), "layer -1 is none of a model of up to 2000 layers"),
        (at_layer(2000), "layer 2000 is none of a model of up to 2000 layers"),
        (at_layer(10**40), "layer 10000000000000000000 is none of a model of up to 2000 layers"),
    ],
)
def test_a_solution_of_another_shape(tmp_path: Path, solution: object, says: str) -> None:
    written(tmp_path, "solution_0.json", solution)
    assert re.match(rf"E1902 .*solution_0.json`: {says}", said(tmp_path))


@pytest.mark.parametrize(
    ("stats", "says"),
    [
        ({}, "a list of measurements is expected"),
        ([], "a list of measurements is expected"),
        ([3], "measurement 0 lacks `args`, `non_block` or `subblocks`"),
        ([MEASURED, {**MEASURED, "args": 3}], "measurement 1 is of another kind"),
        ([{**MEASURED, "subblocks": {}}], "measurement 0 is of another kind"),
        ([{**MEASURED, "non_block": 3}], "measurement 0 is of another kind"),
        ([{**MEASURED, "subblocks": [3]}], "a sub-block of measurement 0 has no `subblock_config`"),
        ([{**MEASURED, "subblocks": [{}]}], "a sub-block of measurement 0 has no `subblock_config`"),
    ],
)
def test_measurements_of_another_shape(tmp_path: Path, stats: object, says: str) -> None:
    written(tmp_path, "subblock_stats.json", stats)
    assert re.match(rf"E1902 .*subblock_stats.json`: {says}", said(tmp_path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "solution_0.json").mkdir()
    assert said(tmp_path).endswith("solution_0.json`: Is a directory")


def test_a_place_without_a_run(tmp_path: Path) -> None:
    assert re.match("E1901 .*it does not exist", said(tmp_path / "nowhere"))
    assert re.match("E1901 .*it is a file", said(written(tmp_path, "gathered.json", {})))
    assert re.match("E1901 .*neither `subblock_stats.json` nor `solution_", said(tmp_path))
    written(tmp_path, "subblock_stats.json", [MEASURED])
    assert re.match("E1901 .*no `solution_.* in it or its folders", said(tmp_path))


def test_a_file_larger_than_any_artefact_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "solution_0.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: it takes no room
    assert said(tmp_path).endswith("it is larger than any artefact")
