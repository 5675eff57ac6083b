"""The same meaning gives the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from puzzledsl.ir.check import check
from puzzledsl.ir.nodes import Program
from tests.ir.programs import NEMOTRON, ROOT, TINY, lowered, without_source

SCHEMA = ROOT / "docs" / "schema" / "ir.schema.json"


def _search(bound: str) -> str:
    return TINY + f"search s of w {{ minimize kl\n  require chat.memory <= {bound}\n}}\n"


def test_units_are_notation(tmp_path: Path) -> None:
    """Equal but for the source's own words, `81920MiB`, and where they stand."""
    one, two = (lowered(tmp_path, _search(bound)) for bound in ("80GiB", "81920MiB"))
    assert one != two
    assert without_source(one.model_dump(mode="json")) == without_source(two.model_dump(mode="json"))


def test_spelling_does_not_matter(tmp_path: Path) -> None:
    programs = [
        lowered(tmp_path, _search(bound))
        for bound in (
            "16GiB",
            "16384MiB",
            "17_179_869.184kB",
            "0.015625TiB",
            "h.memory",
            "2 * 8GiB",
            "16GiB # x",
        )
    ]
    assert len({json.dumps(without_source(p.model_dump(mode="json"))) for p in programs}) == 1


def test_hash_seeds_do_not_matter() -> None:
    code = (
        "import sys; from pathlib import Path; from puzzledsl.ir.check import check\n"
        "sys.stdout.write(check(Path(sys.argv[1]), {}).program.canonical_json())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, str(NEMOTRON)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "4242")
    ]
    assert len(outputs[0]) > 10_000
    assert outputs[0] == outputs[1]


def test_a_program_survives_json() -> None:
    program = check(NEMOTRON, {}).program
    assert program is not None
    again = Program.from_json(program.canonical_json())
    assert again == program
    assert again.digest() == program.digest()


def test_no_machine_path_in_a_program() -> None:
    program = check(NEMOTRON, {}).program
    assert program is not None
    assert program.source == "nemotron51b.pzl"
    assert str(ROOT) not in program.canonical_json()


def test_the_schema_is_current() -> None:
    """`python -m tests.ir.test_determinism` writes it anew."""
    assert SCHEMA.read_text("utf-8") == schema()


def schema() -> str:
    """The JSON schema of ir.json."""
    return json.dumps(Program.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.parent.mkdir(parents=True, exist_ok=True)
    SCHEMA.write_text(schema(), "utf-8")
