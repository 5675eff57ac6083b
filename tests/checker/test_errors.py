"""Mistakes in their many forms: a program and, word for word, what the checker says. `errors/CODE.md` has one of each code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.check import Checked, check
from tests.goldens import assert_golden

ERRORS = Path(__file__).parent / "errors"
PROGRAMS = sorted(ERRORS.glob("*.pzl"))


def settings_of(program: Path) -> dict[str, str]:
    """`# --set NAME=VALUE` lines at the head of a golden program."""
    return dict(re.findall(r"^# --set (\w+)=(.*)$", program.read_text("utf-8"), re.MULTILINE))


@cache
def checked_golden(program: Path) -> Checked:
    return check(program, settings_of(program))


def diagnose(program: Path) -> tuple[Iterable[Diagnostic], Mapping[str, str]]:
    checked = checked_golden(program)
    return checked.diagnostics, checked.sources


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_says_what_the_golden_says(program: Path) -> None:
    assert_golden(program, diagnose)


def test_a_program_with_errors_is_not_lowered() -> None:
    for program in PROGRAMS:
        checked = checked_golden(program)
        assert (checked.program is None) == any(d.severity == "error" for d in checked.diagnostics), program


def test_every_place_is_in_the_source() -> None:
    """Spans lie within the text of a file that the result carries."""
    for program in PROGRAMS:
        checked = checked_golden(program)
        for diagnostic in checked.diagnostics:
            for span in [diagnostic.span, *(label.span for label in diagnostic.secondary)]:
                if span is not None:
                    lines = checked.sources[span.file].split("\n")
                    assert 1 <= span.line <= span.end_line <= len(lines), (program, diagnostic)
                    assert span.end_column <= len(lines[span.end_line - 1]) + 1, (program, diagnostic)
