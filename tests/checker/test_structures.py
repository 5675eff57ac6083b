"""Law of structural requirements: `same as`, `runs`, `longest` and `distinct` mean what Python's own definitions say."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.checker.lints.structure import Layerwise, distinct_ends
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fact
from puzzledsl.ir.structures import Same, Structure, recognised, within
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.formulas import holds, layers_of
from tests.checker.programs import checked, lowered

LAYERS = 5
HEAD = f"""\
parent p = shape(family: llama, layers: {LAYERS}, hidden: 16, heads: 4, kv_heads: 4, head_dim: 4, intermediate: 32, vocab: 50)
"""
ATTENTION = {"parent": "parent", "gqa2": "gqa(kv_heads: 2)", "linear": "linear", "noop": "noop"}
FFN = {"parent": "parent", "mlp16": "mlp(width: 50%)", "noop": "noop"}
WIDTH = {"parent": 32, "mlp16": 16, "noop": 0}
HEADS = {"parent": 4, "gqa2": 2, "linear": 0, "noop": 0}
OPS: dict[str, Callable[[int, int], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
Choices = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
"""For each layer, the names of its attentions and of its FFNs."""

STATEMENTS: dict[str, Callable[[LayerAssignment], bool]] = {
    "l.attention is noop": lambda c: c.attention == "noop",
    "l.attention is not (noop | linear)": lambda c: c.attention not in ("noop", "linear"),
    "l.ffn is mlp": lambda c: c.ffn != "noop",
    "l is noop": lambda c: (c.attention, c.ffn) == ("noop", "noop"),
    "l.ffn.width >= 16": lambda c: WIDTH[c.ffn] >= 16,
    "l.attention.kv_heads * l.ffn.width <= 40": lambda c: HEADS[c.attention] * WIDTH[c.ffn] <= 40,
    "l.attention is noop implies l.ffn is noop": lambda c: c.attention != "noop" or c.ffn == "noop",
}
"""Statements about one layer `l`, and what they mean."""

FIGURES: dict[str, Callable[[LayerAssignment], Any]] = {
    "l.ffn.width": lambda c: WIDTH[c.ffn],
    "l.attention.kv_heads": lambda c: HEADS[c.attention],
    "l.ffn": lambda c: c.ffn,
    "l.attention": lambda c: c.attention,
    "l": lambda c: (c.attention, c.ffn),
    "l.attention.kv_heads * l.ffn.width": lambda c: HEADS[c.attention] * WIDTH[c.ffn],
    "min(l.ffn.width, 20)": lambda c: min(WIDTH[c.ffn], 20),
}
"""Figures of one layer `l`, and what they are."""


# ---------------------------------------------------------------- Python's definitions


def runs(truths: Sequence[bool]) -> int:
    return sum(holds for holds, _ in groupby(truths))


def longest(truths: Sequence[bool]) -> int:
    return max((len(list(run)) for holds, run in groupby(truths) if holds), default=0)


def distinct(values: Sequence[Any]) -> int:
    return len(set(values))


@dataclass(frozen=True)
class Case:
    """A requirement as text, and its meaning for the layers of a child."""

    text: str
    meaning: Callable[[Sequence[LayerAssignment]], bool]


Value = Callable[[Sequence[LayerAssignment]], int]


def bounded(term: str, value: Value, op: str, bound: int, low: int | None) -> Case:
    if low is None:
        return Case(f"{term} {op} {bound}", lambda child: OPS[op](value(child), bound))
    return Case(f"{low} <= {term} < {bound}", lambda child: low <= value(child) < bound)


@st.composite
def tallies(draw: st.DrawFn) -> Case:
    """`runs`, `longest` or `distinct` of some layers, beside a bound."""
    name = draw(st.sampled_from(["runs", "longest", "distinct"]))
    of_layers: dict[str, Callable[[LayerAssignment], Any]] = FIGURES if name == "distinct" else STATEMENTS  # type: ignore[assignment]
    text = draw(st.sampled_from(sorted(of_layers)))
    of = of_layers[text]
    layers = draw(st.lists(st.sampled_from(range(LAYERS)), min_size=1, unique=True).map(sorted))
    figure: Callable[[Sequence[Any]], int] = {"runs": runs, "longest": longest, "distinct": distinct}[name]
    term = f"{name}({text} for l in layers[{', '.join(map(str, layers))}])"
    if len(layers) == 1:
        term = f"{name}({text} for l in layers[{layers[0]}..{layers[0]}])"
    op, bound = draw(st.sampled_from(sorted(OPS))), draw(st.integers(-1, LAYERS + 1))
    low = draw(st.none() | st.integers(0, bound)) if bound >= 0 else None
    return bounded(term, lambda child: figure([of(child[i]) for i in layers]), op, bound, low)


@st.composite
def likenesses(draw: st.DrawFn) -> Case:
    """`same as` between two layers, or sub-blocks of two."""
    i, j = draw(st.lists(st.integers(0, LAYERS - 1), min_size=2, max_size=2, unique=True))
    part = draw(st.sampled_from(["", ".attention", ".ffn"]))
    of = FIGURES["l" + part]
    if draw(st.booleans()):
        return Case(
            f"not layers[{i}]{part} same as layers[{j}]{part}", lambda child: of(child[i]) != of(child[j])
        )
    return Case(f"layers[{i}]{part} same as layers[{j}]{part}", lambda child: of(child[i]) == of(child[j]))


def some_of(names: Sequence[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple)


choices = st.tuples(*[st.tuples(some_of(sorted(ATTENTION)), some_of(sorted(FFN)))] * LAYERS)


def program_of(choice: Choices, requirement: str, folder: Path) -> nodes.Program:
    edits = [
        f"layers[{i}].{part} = {' | '.join(words[name] for name in names)}"
        for i, layer in enumerate(choice)
        for part, words, names in zip(("attention", "ffn"), (ATTENTION, FFN), layer, strict=True)
    ]
    space = "space w of p {\n  ffn = parent | noop\n  " + "\n  ".join(edits) + "\n}\n"
    return lowered(folder, f"{HEAD}{space}search s of w {{ maximize params, require {requirement} }}\n")


def formula_of(choice: Choices, requirement: str) -> nodes.Logic | None:
    """The formula of a requirement; None where the checker says that it is settled."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        try:
            program = program_of(choice, requirement, path)
        except AssertionError:
            assert "E0312" in [d.code for d in checked_again(path).diagnostics]
            return None
    (found,) = program.searches["s"].requirements
    assert isinstance(found, nodes.LogicRequirement)
    return found.formula


def checked_again(folder: Path) -> Any:
    return checked(folder, (folder / "program.pzl").read_text("utf-8"))


@st.composite
def children(draw: st.DrawFn, choice: Choices) -> list[LayerAssignment]:
    return [
        LayerAssignment(attention=draw(st.sampled_from(a)), ffn=draw(st.sampled_from(f))) for a, f in choice
    ]


@settings(max_examples=250, deadline=None)
@given(choices, tallies() | likenesses(), st.data())
def test_a_formula_means_what_python_says(choice: Choices, case: Case, data: st.DataObject) -> None:
    formula = formula_of(choice, case.text)
    for _ in range(6):
        child = data.draw(children(choice))
        wanted = case.meaning(child)
        if formula is None:
            settled = [case.meaning(other) for other in (data.draw(children(choice)), child)]
            assert settled == [wanted] * 2
            continue
        assert holds(formula, dict(enumerate(child))) is wanted
        some = data.draw(st.sets(st.integers(0, LAYERS - 1)))
        partly = holds(formula, {i: child[i] for i in some})
        assert partly in (None, wanted)  # what is known of a part never turns out otherwise


@settings(max_examples=150, deadline=None)
@given(choices, tallies())
def test_ends_are_reached_and_nothing_is_beyond(choice: Choices, case: Case) -> None:
    """`Layerwise.reachable` is the least and the most over all children, by trying every one."""
    with TemporaryDirectory() as folder:
        try:
            program = program_of(choice, case.text, Path(folder))
        except AssertionError:
            return
    (requirement,) = program.searches["s"].requirements
    assert isinstance(requirement, nodes.LogicRequirement)
    found = recognised(requirement.formula)
    if not isinstance(found, Structure):
        return
    ends = Layerwise(program.spaces["w"].layers).reachable(found)
    assert ends is not None
    values = figures(found, choice)
    assert ends == (min(values), max(values))


def figures(structure: Structure, choice: Choices) -> set[int]:
    """Values of a structure's figure, over all children that differ in it."""
    ways: set[tuple[bool, ...]] = {()}
    if structure.function != "distinct":
        for statement in structure.statements:
            own = {bool(holds(statement, {i: c})) for i, c in _of(statement, choice)}
            own = own or {bool(holds(statement, {}))}
            ways = {(*way, truth) for way in ways for truth in own}
        return {(runs if structure.function == "runs" else longest)(way) for way in ways}
    taken: set[frozenset[int]] = {frozenset()}
    for i, layer in enumerate(choice):
        own_values: set[frozenset[int]] = set()
        for a, f in product(*layer):
            child = {i: LayerAssignment(attention=a, ffn=f)}
            own_values.add(frozenset(v for v, s in enumerate(structure.statements) if holds(s, child)))
        taken = {way | values for way in taken for values in own_values}
    constant = frozenset(v for v, s in enumerate(structure.statements) if holds(s, {}))
    return {len(way | constant) for way in taken}


def _of(statement: nodes.Logic, choice: Choices) -> list[tuple[int, LayerAssignment]]:
    return [
        (i, LayerAssignment(attention=a, ffn=f)) for i in layers_of(statement) for a, f in product(*choice[i])
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 4), min_size=1), min_size=1, max_size=5))
def test_the_fewest_and_the_most_values(values: list[frozenset[int]]) -> None:
    counts = [distinct(way) for way in product(*values)]
    assert distinct_ends(values) == (min(counts), max(counts))


# ---------------------------------------------------------------- recognising


def is_noop(layer: int) -> nodes.Logic:
    return nodes.Is(layer=layer, sub_block="attention", alternatives=("noop",))


@pytest.mark.parametrize("function", ["runs", "longest"])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_what_was_made_is_recognised(function: Any, count: int) -> None:
    statements = tuple(map(is_noop, range(count)))
    for least in range(count + 1):
        for most in [None, *range(least, count)]:
            found = recognised(within(function, statements, least, most))
            if function == "longest" and least == 0 and most is None:
                assert found is None  # says nothing
            else:
                assert found == Structure(function, statements, least, most)


def test_values_and_likenesses_are_recognised(tmp_path: Path) -> None:
    body = "require distinct(ffn.width) <= 2\n require layers[1] same as layers[3]\n require layers[3].ffn same as layers[2].ffn"
    space = "space w of p { attention = parent | noop, ffn = parent | noop }\n"
    program = lowered(tmp_path, f"{HEAD}{space}search s of w {{\n maximize params\n {body}\n}}\n")
    requirements = program.searches["s"].requirements
    found = [recognised(r.formula) for r in requirements if isinstance(r, nodes.LogicRequirement)]
    assert isinstance(found[0], Structure) and (found[0].function, found[0].most) == ("distinct", 2)
    assert found[1:] == [Same(1, 3, ("attention", "ffn")), Same(3, 2, ("ffn",))]


def test_statements_that_look_alike_are_not(tmp_path: Path) -> None:
    one, two = is_noop(0), is_noop(1)
    implies = nodes.Implies(condition=one, consequence=two)
    for logic in (
        one,
        implies,
        nodes.And(operands=(one, two)),
        nodes.And(operands=(implies, implies)),
        nodes.Or(operands=(one, two)),
        nodes.Or(operands=(nodes.And(operands=(two,)), nodes.And(operands=(one,)))),
        nodes.Cardinality(operands=(one, two), at_least=1),
    ):
        assert recognised(logic) is None


def test_the_tables_above_are_the_language_s_own(tmp_path: Path) -> None:
    choice: Choices = ((tuple(ATTENTION), tuple(FFN)),) * LAYERS
    program = program_of(choice, "layers[0].ffn is noop", tmp_path)
    layer, shape = program.spaces["w"].layers[0], program.parents["p"].shape
    assert {a.name: fact(a, "kv_heads", shape) for a in layer.attention} == HEADS
    assert {f.name: fact(f, "width", shape) for f in layer.ffn} == WIDTH
