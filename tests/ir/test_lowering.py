"""What each kind of declaration means, setting by setting, and what is said of each that is wrong.

`lowering/*.pzl` hold the programs. One that is right has its IR beside it in a `.json` file; one that is wrong, in a `.err` file,
what is said of it: every place, word and number. `PZL_UPDATE_GOLDENS=1` rewrites both; read them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from puzzledsl.diagnostics import Diagnostic
from puzzledsl.ir.check import check
from puzzledsl.ir.nodes import Where
from tests.goldens import assert_golden

PROGRAMS = Path(__file__).parent / "lowering"
WRONG = sorted(p for p in PROGRAMS.glob("*.pzl") if p.stem.startswith("wrong"))
RIGHT = sorted(set(PROGRAMS.glob("*.pzl")) - set(WRONG))


def diagnose(program: Path) -> tuple[Iterable[Diagnostic], Mapping[str, str]]:
    checked = check(program, {})
    return checked.diagnostics, checked.sources


def meaning(value: object) -> Any:
    """A part of the IR as JSON: the kind of each thing, and what is not as the kind has it by default."""
    match value:
        case Where():
            return f"{value.file}:{value.line}:{value.column} to {value.end_line}:{value.end_column} {value.text}"
        case BaseModel():
            fields = type(value).model_fields
            pairs = {name: getattr(value, name) for name in fields}
            return {n: meaning(v) for n, v in pairs.items() if n == "kind" or v != fields[n].get_default()}
        case Mapping():
            return {str(key): meaning(item) for key, item in value.items()}
        case tuple():
            return [meaning(item) for item in value]
        case Fraction():
            return str(value)
        case _:
            return value


@pytest.mark.parametrize("program", WRONG, ids=lambda p: p.stem)
def test_what_is_said_of_each_mistake(program: Path) -> None:
    assert_golden(program, diagnose)


@pytest.mark.parametrize("program", RIGHT, ids=lambda p: p.stem)
def test_what_each_setting_means(program: Path) -> None:
    checked = check(program, {})
    assert checked.program is not None, checked.diagnostics
    got = json.dumps(meaning(checked.program), indent=1, ensure_ascii=False)
    got = got.replace(f"{program.parent}{os.sep}", "") + "\n"
    golden = program.with_suffix(".json")
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text(got, "utf-8")
    assert got == golden.read_text("utf-8")
