"""Every JSON file that a tiny program's run writes is described by a published schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import unsealed_line
from puzzledsl.cli.main import run
from puzzledsl.cli.schemas import DESCRIBED, FILES, OTHERS, Described
from puzzledsl.pipeline.errors import NotReady
from puzzledsl.pipeline.process.locks import Holder
from puzzledsl.pipeline.stamps import record
from scripts.reference_artefacts import schemas
from tests.documents import ROOT
from tests.pipeline.test_refining import REFINED
from tests.pipeline.tiny_program import run_with

SHIPPED = ROOT / "docs" / "schema"
FRONTIER = "frontier curve of best = sweep(chat.throughput, 1.2x..1.4x, points: 2)\n"
NO_JSON_OF_OURS = (
    r"models/[^/]+/(config|generation_config|heterogeneous_layers_config|tokenizer|tokenizer_config).json"
)
"""A checkpoint's files, in the formats of their readers."""


def problems(each: Described, document: object) -> list[str]:
    validator = jsonschema.Draft202012Validator(each.schema())
    return [
        f"{each.name}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)
    ]


def documents(path: Path, each: Described) -> Iterator[Any]:
    """The documents in a file."""
    text = path.read_text("utf-8")
    match each.form:
        case "JSON":
            yield json.loads(text)
        case "JSON lines":
            yield from map(json.loads, text.splitlines())
        case "sealed JSON lines":
            for line in text.splitlines():
                content = unsealed_line(line)
                assert content is not None
                yield json.loads(content)


def checked(build: Path) -> set[str]:
    """Hold every file of a build directory against its schema; return the names of those that were there."""
    seen, wrong = set(), []
    for path in sorted(p for p in build.rglob("*") if p.is_file()):
        relative = path.relative_to(build).as_posix()
        ours = tuple(place for place in OTHERS if place in ("evals/units/", "work/"))
        if path.suffix not in (".json", ".jsonl") or relative.startswith(ours):
            known = any(Described("", place.rstrip("/"), None).holds(relative) for place in OTHERS)
            inside = any(relative.startswith(p.split("*")[0]) for p in OTHERS if p.endswith("/"))
            assert known or inside or path.name.endswith(".lock"), f"{relative} is described nowhere"
        elif not re.fullmatch(NO_JSON_OF_OURS, relative):
            kinds = [each for each in FILES if each.holds(relative)]
            assert len(kinds) == 1, f"{relative} has {len(kinds)} schemas"
            found = list(documents(path, kinds[0]))
            assert found, relative
            wrong += [f"{relative}: {text}" for each in found for text in problems(kinds[0], each)]
            seen.add(kinds[0].name)
    assert not wrong, "\n".join(wrong[:20])
    return seen


def test_the_shipped_schemas_are_current() -> None:
    made = schemas()
    assert {path.name for path in SHIPPED.iterdir()} == made.keys()
    for name, text in made.items():
        assert (SHIPPED / name).read_text("utf-8") == text, "run `python scripts/reference.py`"
        jsonschema.Draft202012Validator.check_schema(json.loads(text))


def test_the_files_and_outputs_of_a_run_obey_their_schemas(
    copied: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    program = copied()
    build = program.parent / "build"
    program.write_text(program.read_text() + FRONTIER)
    wanted = {
        "pzl check": [str(program)],
        "pzl show": [str(program)],
        "pzl plan": [str(build), str(program)],
        "pzl compile": [str(program)],
        "pzl cost": [str(program)],
        "pzl solve": [str(program), "best", "--baselines"],
        "pzl why": [str(program), "best"],
        "pzl frontier": [str(program)],
        "pzl run": [str(program), "--dry-run"],
        "pzl status": [str(program)],
    }
    for place, arguments in wanted.items():
        capsys.readouterr()
        code = run([*place.split()[1:], *arguments, "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        found = json.loads(said.out)
        assert place != "pzl why" or problems(DESCRIBED["why"], found) == []
    (build / ".holder.json").write_text(Holder.ourselves().canonical_json())  # of a killed run
    record(BuildDir(build), "score", "kl", DiagnosticError(NotReady(None, name="best", missing="", help="")))
    assert {each.name for each in FILES} - checked(build) == {
        "refinement",
        "engine-check",
        "load-check",
    }


def test_a_mistake_and_what_a_schema_does_not_know_are_found() -> None:
    document = json.loads(Holder.ourselves().canonical_json())
    assert problems(DESCRIBED["holder"], document) == []
    assert problems(DESCRIBED["holder"], document | {"more": 1})
    del document["pid"]
    assert problems(DESCRIBED["holder"], document)


@pytest.mark.slow
def test_refined_children_and_engines_obey_their_schemas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = run_with(tmp_path, REFINED + FRONTIER)
    command = ["verify-export", str(build / "models" / "final"), "--runtime", "llama_cpp", "-o", str(build)]
    assert run([*command, "--json"]) == 0
    assert problems(DESCRIBED["engine-check"], json.loads(capsys.readouterr().out)) == []
    assert run(["refine", str(tmp_path / "tiny.pzl"), "--json"]) == 0
    (one, *_) = json.loads(capsys.readouterr().out)
    assert problems(DESCRIBED["refinement"], one) == []
    assert {each.name for each in FILES} - checked(build) == {"why", "holder", "failure", "load-check"}


def test_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"].startswith("urn:puzzledsl:schema:ir-")
    assert run(["schema", "costs"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((SHIPPED / "costs.schema.json").read_text())
    assert run(["schema", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(DESCRIBED)
    assert run(["schema", "cots"]) == 2
    assert "did you mean `costs`?" in capsys.readouterr().err
