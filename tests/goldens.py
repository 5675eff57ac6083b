"""Golden files: `NAME.err` beside `NAME.pzl` holds what the tool says about it, word for word.

`PZL_UPDATE_GOLDENS=1 pytest` rewrites them; read the difference before you commit it.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.render import render_all

Check = Callable[[Path], tuple[Iterable[Diagnostic], Mapping[str, str]]]
"""A file to its diagnostics and the texts of the files they point into."""


def assert_golden(program: Path, check: Check) -> None:
    """Fail unless the diagnostics of `program` are those of the `.err` file beside it."""
    diagnostics, sources = check(program)
    ordered = sorted(diagnostics, key=lambda d: d.sort_key)
    got = render_all(ordered, sources, color=False, width=100).replace(f"{program.parent}{os.sep}", "")
    assert_text(program.with_suffix(".err"), got)


def assert_text(golden: Path, got: str) -> None:
    """Fail unless a text is that of its golden file."""
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text(got, "utf-8")
    assert golden.exists(), f"{golden} is missing: run with PZL_UPDATE_GOLDENS=1"
    assert got == golden.read_text("utf-8")


def refusal(build: Callable[[], object]) -> str:
    """Return what is told where something raises a DiagnosticError: code, message, place and help of each diagnostic."""
    with pytest.raises(DiagnosticError) as error:
        build()
    lines = []
    for d in error.value.diagnostics:
        at = "" if d.span is None else f" [{d.span.file}:{d.span.line}:{d.span.column}]"
        lines += [f"{d.code} {d.message}{at}", *([f"  {d.help}"] if d.help else [])]
    return "\n".join(lines) + "\n"
