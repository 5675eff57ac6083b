"""Every file that a tiny program's run writes is in docs/artefacts.md, and the record that stands there reads it."""

import json
import re
from collections.abc import Callable
from fnmatch import translate
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.pipeline.context import record
from puzzledsl.pipeline.errors import NotReady
from puzzledsl.pipeline.process import Holder
from tests.commands import told
from tests.documents import ROOT
from tests.pipeline.test_refining import REFINED
from tests.pipeline.tiny_program import run_with

FRONTIER = "frontier curve of best = sweep(chat.throughput, 1.2x..1.4x, points: 2)\n"
ROWS = re.findall(
    r"^\| `([^`]+)` \| (?:`([^`]+)`)? ?\| ", (ROOT / "docs/artefacts.md").read_text("utf-8"), re.MULTILINE
)
PLACES: dict[str, str] = {place: kind for place, kind in ROWS if "." in place or place.endswith("/")}
"""Place in a build directory -> the record that reads it, or nothing."""


def read_by(kind: str, path: Path) -> None:
    """Read a file by a record, line by line where it has lines."""
    module, _, name = kind.rpartition(".")
    found: Any = getattr(import_module(module), name)
    whole = path.read_text("utf-8")
    for text in whole.splitlines() if path.suffix == ".jsonl" else [whole]:
        fields = json.loads(text)
        fields.pop("check", None)
        assert isinstance(found.model_validate(fields), found)


def described(build: Path) -> set[str]:
    """Read every file of a build directory; return the places of those that were there."""
    seen = set()
    for path in sorted(p for p in build.rglob("*") if p.is_file() and not p.name.endswith(".lock")):
        relative = path.relative_to(build).as_posix()
        places = [p for p in PLACES if re.match(translate(p).replace(".*", "[^/]*"), relative)]
        inside = [p for p in PLACES if p.endswith("/") and relative.startswith(p.split("*")[0])]
        assert places or inside, f"{relative} is described nowhere"
        seen |= {*places}
        if places and (kind := PLACES[places[0]]):
            read_by(kind, path)
    return seen


def test_the_files_of_a_run_are_described(copied: Callable[[], Path]) -> None:
    program = copied()
    build = program.parent / "build"
    program.write_text(program.read_text() + FRONTIER)
    assert told("plan", build, program) and told("run", program, "--dry-run")
    for command in ("check", "show", "compile", "cost", "frontier", "status"):
        assert told(command, program)
    for command in ("solve", "why"):
        assert told(command, program, "best")
    (build / ".holder.json").write_text(Holder.ourselves().canonical_json())  # of a killed run
    record(BuildDir(build), "score", "kl", DiagnosticError(NotReady(None, name="best", missing="", help="")))
    lacking = {place for place, kind in PLACES.items() if kind} - described(build)
    assert lacking == {"refined/*.json", "load/*.json"}


@pytest.mark.slow
def test_refined_children_are_described(tmp_path: Path) -> None:
    build = run_with(tmp_path, REFINED + FRONTIER)
    assert described(build) >= {"refined/*.json", "search/*.json"}
