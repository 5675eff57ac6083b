"""Golden files: `NAME.err` beside `NAME.pzl` holds what the tool says about it, word for word.

`PZL_UPDATE_GOLDENS=1 pytest` rewrites them; read the difference before you commit it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.render import render_all

Check = Callable[[Path], tuple[Iterable[Diagnostic], Mapping[str, str]]]
"""A file to its diagnostics and the texts of the files they point into."""


def assert_golden(program: Path, check: Check) -> None:
    """Fail unless the diagnostics of `program` are those of the `.err` file beside it."""
    diagnostics, sources = check(program)
    ordered = sorted(diagnostics, key=lambda d: d.sort_key)
    got = render_all(ordered, sources, color=False, width=100).replace(f"{program.parent}{os.sep}", "")
    golden = program.with_suffix(".err")
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text(got, "utf-8")
    assert golden.exists(), f"{golden} is missing: run with PZL_UPDATE_GOLDENS=1"
    assert got == golden.read_text("utf-8")
