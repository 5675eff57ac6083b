"""No input crashes or hangs the checker, and with several mistakes in a file it finds nearly all and invents nearly none."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.syntax import tree
from tests.cases import cases, more
from tests.checker.programs import TINY, checked, mistakes
from tests.strategies import expressions, modules
from tests.syntax.unparse import unparse, unparse_expr

CPU_SECONDS = 30  # a hang; of the processor, so that a busy machine is none


def chain(count: int, first: str, step: str) -> str:
    """`let a0 = FIRST`, then each from the one before: `STEP` with `{}` for its name."""
    return f"let a0 = {first}\n" + "".join(
        f"let a{i + 1} = {step.replace('{}', f'a{i}')}\n" for i in range(count)
    )


def in_search(text: str) -> str:
    return TINY + "search s of w {\n minimize kl\n" + text + "}\n"


EXPLOSIVE = {
    "numbers grow": (chain(60, "9999999999", "{} * {}"), {"E0220"}),
    "denominators grow": (chain(60, "1/3", "{} / 1e60"), {"E0220"}),
    "options double": (chain(60, "1 | 2", "{} | {}"), {"E0220"}),
    "formulas double": (in_search(chain(60, "layers[0].ffn is noop", "{} implies {}") + " require a60\n"), {"E0220"}),
    "requirements double": (in_search(chain(60, "params <= 3", "{} and {}") + " require a60\n"), {"E0220"}),
    "recursion that doubles": ("fn f(n) = if n <= 0 then 0 else f(n - 1) + f(n - 1)\nlet x = f(90)\n", {"E0220"}),
    "nested comprehensions": ("let x = sum(sum(i * j for j in 0..19999) for i in 0..19999)\n", {"E0220"}),
    "a huge range": (in_search(" for i in 0..1e15 { require layers[0].ffn is noop }\n"), {"E0220"}),
    "nested fors": (in_search(" for i in 0..9999 { for j in 0..9999 { require layers[0].ffn is noop } }\n"), {"E0220"}),
    "a long chain backwards": (
        "".join(f"let a{i} = a{i + 1} + 1\n" for i in range(600)) + "let a600 = 1\n", {"E0220"},
    ),
    "searches of each other": (TINY + "search a of b {}\nsearch b of a {}\n", {"E0214"}),
    "a huge shape": (
        "parent p = shape(family: llama, layers: 1e9, hidden: 8, heads: 1, head_dim: 2, intermediate: 8, vocab: 3)\n",
        {"E0304"},
    ),
}  # fmt: skip


LONG = ("nested fors", "recursion that doubles", "nested comprehensions")
"""What takes seconds until it is too much; a huge range is of their kind."""


@pytest.mark.parametrize("name", [*(name for name in EXPLOSIVE if name not in LONG), *more(*LONG)])
def test_explosions_are_contained(tmp_path: Path, name: str) -> None:
    text, codes = EXPLOSIVE[name]
    start = time.process_time()
    assert {code for code, _ in mistakes(tmp_path, text)} == codes
    assert time.process_time() - start < CPU_SECONDS


def test_long_programs_are_fine(tmp_path: Path) -> None:
    """Long but plain expressions are no explosion."""
    text = chain(1000, "1", "{} + 1") + TINY + "search s0 of w { minimize kl }\n"
    text += "".join(f"search s{i + 1} of s{i} {{ }}\n" for i in range(200))
    assert [code for code, _ in mistakes(tmp_path, text) if code != "W0201"] == []


@given(modules)
@settings(max_examples=cases(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_any_tree_is_answered(module: tree.Module) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = checked(Path(folder), unparse(module))
    assert (found.program is None) == any(d.severity == "error" for d in found.diagnostics)


@given(st.lists(expressions.map(unparse_expr), min_size=8, max_size=8))
@settings(max_examples=cases(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_any_expression_anywhere_is_answered(texts: list[str]) -> None:
    a, b, c, d, e, f, g, h = texts
    text = TINY + (
        f"let x = {a}\nspace v of p {{\n attention = {b}\n layers[{c}].ffn = {d}\n}}\nscenario r on h = batch({e}, 3 -> {f})\n"
        f"search s of w {{\n minimize {g}\n require {h}\n require {a} <= {b}\n for i in {c} where {d} {{ require {e} }}\n"
        f" prefer {f}\n solutions {g} apart {h}\n solver = {a}\n}}\nbld b of w {{ train = {b}, tokens = {c}, lr = {d} }}\n"
        f"score t of b = replace_one({e}, samples: {f})\nuptrain u of s {{ loss = {g}, tokens = {h} }}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        checked(Path(folder), text)
