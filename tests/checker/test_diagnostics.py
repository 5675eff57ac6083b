"""Mistakes in their many forms, each one diagnostic: nothing follows from a mistake, and nothing beside it is left unchecked.

`errors/*.pzl` and `lowering/wrong*.pzl` have beside them, word for word, what the checker says.
`PZL_UPDATE_GOLDENS=1` rewrites them; read them.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.check import Checked, check
from tests.checker.programs import TINY, mistakes
from tests.goldens import assert_golden

HERE = Path(__file__).parent
LONG = HERE / "errors" / "too_much_work.pzl"
"""It works until that is too much, which takes seconds; `too_much.pzl` has the other limits."""
PROGRAMS = sorted({*HERE.glob("errors/*.pzl"), *HERE.glob("lowering/wrong*.pzl")} - {LONG})


@cache
def checked_golden(program: Path) -> Checked:
    """The outcome for a golden program, with the settings of the lines `# --set NAME=VALUE` at its head."""
    settings = re.findall(r"^# --set (\w+)=(.*)$", program.read_text("utf-8"), re.MULTILINE)
    return check(program, dict(settings))


def diagnose(program: Path) -> tuple[Iterable[Diagnostic], Mapping[str, str]]:
    return checked_golden(program).diagnostics, checked_golden(program).sources


@pytest.mark.states(
    "export.lowered", "hardware.engine", "hardware.running", "parent.impossible", "parent.other-family",
    "score.runs-alone", "score.healed-alone", "judge.apart", "eval.texts", "eval.dtype", "eval.prompts",
    "check.all", "check.program", "check.warnings", "check.direction", "check.imports",
    "use.cycle",
)  # fmt: skip
@pytest.mark.parametrize(
    "program", [*PROGRAMS, pytest.param(LONG, marks=pytest.mark.slow)], ids=lambda path: path.stem
)
def test_says_what_the_golden_says(program: Path) -> None:
    """Every place is in the source, and a program with errors is not lowered."""
    assert_golden(program, diagnose)
    found = checked_golden(program)
    assert (found.program is None) == any(d.severity == "error" for d in found.diagnostics)
    for diagnostic in found.diagnostics:
        for span in [diagnostic.span, *(label.span for label in diagnostic.secondary)]:
            if span is not None:
                lines = found.sources[span.file].split("\n")
                assert 1 <= span.line <= span.end_line <= len(lines), diagnostic
                ends = len(lines[span.end_line - 1]) + 2  # a line's end is a sign that may be unexpected
                assert span.end_column <= ends, diagnostic


EVERYTHING = f"""\
{TINY}hardware g {{ memory = 80GB, bandwidth = 2TB/s, peak {{ bf16 = 300TFLOP/s }} }}
hardware m = measured(device: cpu)
search s of w {{
  minimize kl
  require chat.memory <= 3GiB
}}
search t of s {{ solver = cpsat }}
"""


@pytest.mark.parametrize("broken", ["parent p = shape(layers: )", "parent p = shape(", "parent p = nothing"])
def test_what_needs_a_broken_declaration_is_checked_all_the_same(tmp_path: Path, broken: str) -> None:
    text = "\n".join([broken, *EVERYTHING.replace("3GiB", "3s").replace("cpsat", "cpsta").split("\n")[1:]])
    found = mistakes(tmp_path, text)
    assert [line for _, line in found] == [1, 10, 12]
    assert {code for code, line in found if line > 1} == {"E0301", "E0305"}


def test_only_what_is_near_a_mistake_of_the_text_is_spared(tmp_path: Path) -> None:
    text = TINY + "let = 3\nbld b of w { train = ffn }\nscore r of w\nlet y = llama.layers\n"
    assert mistakes(tmp_path, text) == [("E0001", 6), ("E0209", 7), ("E0209", 8)]
