"""The same meaning gives the same bytes."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.checker.check import check
from puzzledsl.ir.base import FORMAT_VERSION
from tests.cases import cases, more
from tests.checker.programs import NEMOTRON, ROOT, TINY, lowered, without_source

GOLDENS = Path(__file__).parent / "goldens"
TOUR = ROOT / "examples" / "tour" / "tour.pzl"
PROGRAMS = {
    "nemotron51b": NEMOTRON,
    "smollm2": ROOT / "examples" / "smollm2" / "smollm2.pzl",
    "tour": TOUR,
}
SCHEMA = ROOT / "docs" / "schema" / "ir.schema.json"


def _search(bound: str) -> str:
    return TINY + f"search s of w {{ minimize kl\n  require chat.memory <= {bound}\n}}\n"


def test_spelling_does_not_matter(tmp_path: Path) -> None:
    """Units are notation: equal but for the source's own words, `81920MiB`, and where they stand."""
    bounds = ("16GiB", "16384MiB", "17_179_869.184kB", "0.015625TiB", "h.memory", "2 * 8GiB", "16GiB # x")
    programs = [lowered(tmp_path, _search(bound)) for bound in bounds]
    assert programs[0] != programs[1]
    assert len({json.dumps(without_source(p.model_dump(mode="json"))) for p in programs}) == 1


def _lowered_elsewhere(program: Path, folder: Path, **environment: str) -> bytes:
    """The IR's bytes from a fresh process."""
    code = (
        "import sys; from pathlib import Path; from puzzledsl.checker.check import check\n"
        "sys.stdout.buffer.write(check(Path(sys.argv[1]), {}).program.canonical_json().encode())"
    )
    command = [sys.executable, "-c", code, os.path.relpath(program, folder)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=variables, cwd=folder, capture_output=True, check=True).stdout


@pytest.mark.states("ir.same")
def test_surroundings_do_not_matter() -> None:
    """Hash seed, locale (one with a decimal comma where the system has it), Python's own encoding, working directory."""
    variables = {"PYTHONHASHSEED": "4242", "LC_ALL": "de_DE.UTF-8", "PYTHONUTF8": "0", "TZ": "Asia/Tokyo"}
    assert _lowered_elsewhere(TOUR, Path("/tmp"), **variables) == (GOLDENS / "tour.json").read_bytes()


def _declarations(text: str) -> list[str]:
    """A program's top-level items, each with its lines and the doc comment before it."""
    parts: list[str] = []
    before = ""
    for line in text.splitlines(keepends=True):
        begins = line[:1].isalpha() or line.startswith("##")
        if not parts or (begins and not before.startswith("##")):
            parts.append(line)
        else:
            parts[-1] += line
        before = line
    return [part if part.endswith("\n") else part + "\n" for part in parts]


TOUR_ITEMS = _declarations(TOUR.read_text("utf-8"))
TOUR_MEANING = without_source(json.loads((GOLDENS / "tour.json").read_bytes()))


@pytest.mark.states("ir.order", "names.order")
@settings(max_examples=cases(15), deadline=None)
@given(st.permutations(TOUR_ITEMS))
def test_the_order_of_declarations_does_not_matter(items: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tour.pzl"
        path.write_text("".join(items), "utf-8")
        for used in TOUR.parent.glob("tour_*.pzl"):
            (Path(folder) / used.name).write_bytes(used.read_bytes())
        found = check(path, {})
    assert not [d for d in found.diagnostics if d.severity == "error"]
    assert found.program is not None
    assert without_source(json.loads(found.program.canonical_json())) == TOUR_MEANING


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_the_ir_is_the_golden_one(name: str) -> None:
    """Any change to what a program means, or to how it is written down, shows here. PZL_UPDATE_GOLDENS=1 writes them."""
    program = check(PROGRAMS[name], {}).program
    assert program is not None
    golden = GOLDENS / f"{name}.json"
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text(program.canonical_json(), "utf-8")
    assert program.canonical_json() == golden.read_text("utf-8")


@pytest.mark.parametrize("name", ["tour", *more(*sorted({*PROGRAMS} - {"tour"}))])
def test_goldens_obey_the_published_schema(name: str) -> None:
    golden = json.loads((GOLDENS / f"{name}.json").read_bytes())
    published = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.Draft202012Validator(published).validate(golden)
    assert golden["format_version"] == published["properties"]["format_version"]["default"]
    assert published["$id"] == f"urn:puzzledsl:schema:ir-{FORMAT_VERSION}"
    broken = {**golden, "searchs": {}}
    assert not jsonschema.Draft202012Validator(published).is_valid(broken)
