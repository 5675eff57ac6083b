"""No tree and no expression crashes the checker, and long programs are no explosion; `tests/fuzz` has other inputs."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.syntax import tree
from tests.cases import cases
from tests.checker.programs import TINY, chain, checked, mistakes
from tests.strategies import expressions, modules
from tests.syntax.unparse import unparse, unparse_expr


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
