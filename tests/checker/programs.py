"""Programs of these tests: written to a file, checked, and the answer looked at."""

from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.check import Checked, check
from puzzledsl.ir.nodes import Program

ROOT = Path(__file__).parents[2]
NEMOTRON = ROOT / "examples" / "nemotron51b.pzl"

TINY = """\
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = gqa(kv_heads: 4 | 2 | 1) | linear | noop, ffn = mlp(width: 100% | 50%) | noop }
hardware h = measured(device: cpu, memory: 16GiB)
scenario chat on h = batch(4, 128 -> 64)
score kl of w = table("kl.csv")
"""
"""A parent, its space, a scenario and a score: what searches need."""


def checked(folder: Path, text: str, name: str = "program.pzl", **settings: str) -> Checked:
    """The outcome of checking a text."""
    path = folder / name
    path.write_text(text, "utf-8")
    return check(path, settings)


def lowered(folder: Path, text: str, **settings: str) -> Program:
    """The program a correct text means; a mistake, or an override without effect, fails the test.

    Other warnings are about what a text is for, and these are for tests.
    """
    found = checked(folder, text, **settings)
    wrong = [str(d) for d in found.diagnostics if d.severity == "error" or d.code == "W0412"]
    assert not wrong, wrong
    assert found.program is not None
    return found.program


def mistakes(folder: Path, text: str, **settings: str) -> list[tuple[str, int]]:
    """Code and line of every diagnostic."""
    return [(d.code, line_of(d)) for d in checked(folder, text, **settings).diagnostics]


def line_of(diagnostic: Diagnostic) -> int:
    """The line of a diagnostic; 0 where it has no place."""
    return diagnostic.span.line if diagnostic.span else 0


def chain(count: int, first: str, step: str) -> str:
    """`let a0 = FIRST`, then each from the one before: `STEP` with `{}` for its name."""
    return f"let a0 = {first}\n" + "".join(
        f"let a{i + 1} = {step.replace('{}', f'a{i}')}\n" for i in range(count)
    )


def without_source(value: Any) -> Any:
    """A JSON value without the places things were written at, and without source text."""
    if isinstance(value, dict):
        dropped = ("where", "asked", "inputs")
        kept = {key: item for key, item in value.items() if key not in dropped and not key.endswith("_where")}
        return {key: without_source(item) for key, item in kept.items()}
    return [without_source(item) for item in value] if isinstance(value, list) else value
