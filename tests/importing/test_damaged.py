"""Whatever one value of a run's files is replaced by, the run is refused by a diagnostic or imported as a program that checks."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.checker.check import check
from puzzledsl.importing.puzzletron import read_puzzletron
from puzzledsl.importing.write import files_of
from tests.importing import puzzle_run
from tests.importing.puzzle_run import write_run

GONE = object()
ODD = (GONE, None, -1, 0, "x", [], {}, True, float("nan"), 1e300, 5000, 10**40, 1.5, [3], {"a": 1})
"""What stands in place of a value. An odd number of them, so that neighbouring places meet different ones."""
EACH = 2  # how many of them each place meets


def places(value: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to a value and all that is in it; of a list, to its first two."""
    yield at
    inside = (
        value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    )
    for key, inner in inside:
        yield from places(inner, (*at, key))


def replaced(value: Any, at: tuple[Any, ...], new: object) -> Any:
    """A copy with what is at a path replaced, or removed."""
    if not at:
        return None if new is GONE else new
    value = copy.copy(value)
    if len(at) == 1 and new is GONE:
        del value[at[0]]
    else:
        value[at[0]] = replaced(value[at[0]], at[1:], new)
    return value


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two layers."""
    monkeypatch.setattr(puzzle_run, "LAYERS", 2)
    monkeypatch.setattr(puzzle_run, "BATCHES", (8,))
    monkeypatch.setattr(puzzle_run, "ATTENTIONS", (4, None))
    monkeypatch.setattr(puzzle_run, "FFNS", (256, 128))
    return write_run(tmp_path / "run")


@pytest.mark.parametrize(
    "name",
    [
        "run/subblock_stats.json",
        "run/single_sequence_replacement_solutions--validation/solution_0.json",
        "run/single_sequence_replacement_solutions--validation/teacher.json",
        "run/mip/puzzle_solutions/batch_size_16/target_memory_6MiB/solutions.json",
    ],
)
def test_a_damaged_run_is_refused_or_is_a_program(run: Path, tmp_path: Path, name: str) -> None:
    file, number, refused = tmp_path / name, count(), 0
    whole = json.loads(file.read_text())
    for at in places(whole):
        for odd in (ODD[next(number) % len(ODD)] for _ in range(EACH)):
            file.write_text(json.dumps(replaced(whole, at, odd)))
            try:
                files = files_of(read_puzzletron(run), tmp_path)
            except DiagnosticError:
                refused += 1
                continue
            for written, text in files.items():
                (tmp_path / written).write_text(text)
            found = check(tmp_path / "puzzletron.pzl", {}).diagnostics
            assert not [d.message for d in found if d.code.startswith("E")], (at, odd)
    assert refused < next(number)
