"""Law of structural requirements: `same as`, `runs`, `longest` and `distinct` mean what Python's own definitions say."""

import operator
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fact
from puzzledsl.ir.logic import holds
from puzzledsl.ir.tables import LayerAssignment
from tests.cases import cases
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
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
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


Meaning = Callable[[Sequence[LayerAssignment]], bool]
Case = tuple[str, Meaning]
"""A requirement as text, and its meaning for the layers of a child."""


@st.composite
def tallies(draw: st.DrawFn) -> Case:
    """`runs`, `longest` or `distinct` of some layers, beside a bound."""
    name, figure = draw(st.sampled_from([("runs", runs), ("longest", longest), ("distinct", distinct)]))
    of_layers: dict[str, Callable[[LayerAssignment], Any]] = FIGURES if name == "distinct" else STATEMENTS  # type: ignore[assignment]
    text = draw(st.sampled_from(sorted(of_layers)))
    of = of_layers[text]
    layers = draw(st.lists(st.sampled_from(range(LAYERS)), min_size=1, unique=True).map(sorted))
    several = ", ".join(map(str, layers)) if len(layers) > 1 else f"{layers[0]}..{layers[0]}"
    term = f"{name}({text} for l in layers[{several}])"
    op, bound = draw(st.sampled_from(sorted(OPS))), draw(st.integers(-1, LAYERS + 1))
    low = draw(st.none() | st.integers(0, bound)) if bound >= 0 else None
    if low is None:
        return f"{term} {op} {bound}", lambda child: OPS[op](figure([of(child[i]) for i in layers]), bound)
    return f"{low} <= {term} < {bound}", lambda child: low <= figure([of(child[i]) for i in layers]) < bound


@st.composite
def comparisons(draw: st.DrawFn) -> Case:
    """Numbers of three layers, compared inside a statement."""
    i, j, k = draw(st.lists(st.integers(0, LAYERS - 1), min_size=3, max_size=3, unique=True))
    op, factor = draw(st.sampled_from([op for op in OPS if op != "!="])), draw(st.integers(1, 3))
    right = f"{factor} * layers[{j}].ffn.width + layers[{k}].attention.kv_heads"
    text = f"not (layers[{i}].ffn.width {op} {right}) or layers[{j}].ffn is noop"

    def meaning(c: Sequence[LayerAssignment]) -> bool:
        wide = OPS[op](WIDTH[c[i].ffn], factor * WIDTH[c[j].ffn] + HEADS[c[k].attention])
        return not wide or c[j].ffn == "noop"

    return text, meaning


@st.composite
def likenesses(draw: st.DrawFn) -> Case:
    """`same as` between two layers, or sub-blocks of two."""
    i, j = draw(st.lists(st.integers(0, LAYERS - 1), min_size=2, max_size=2, unique=True))
    part, negated = draw(st.sampled_from(["", ".attention", ".ffn"])), draw(st.booleans())
    of = FIGURES["l" + part]
    text = f"layers[{i}]{part} same as layers[{j}]{part}"
    return "not " * negated + text, lambda child: (of(child[i]) == of(child[j])) is not negated


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
            written = (path / "program.pzl").read_text("utf-8")
            assert "E0312" in [d.code for d in checked(path, written).diagnostics]
            return None
    (found,) = program.searches["s"].requirements
    assert isinstance(found, nodes.LogicRequirement)
    formula: nodes.Logic = TypeAdapter(nodes.Logic).validate_python(
        with_facts(found.formula.model_dump(mode="json"))
    )
    return formula


def with_facts(value: Any) -> Any:
    """The JSON of a formula with tables of this file's own facts in place of facts."""
    if isinstance(value, list):
        return [with_facts(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.get("kind") != "fact":
        return {key: with_facts(part) for key, part in value.items()}
    known, part = (HEADS, "attention") if value["attribute"] == "kv_heads" else (WIDTH, "ffn")
    cells = [[str(v)] for v in known.values()] if part == "attention" else [[*map(str, known.values())]]
    names = {"attention": [], "ffn": []} | {part: [*known]}
    return {"kind": "table", **names, "values": cells, "layers": value["layers"]}


@st.composite
def children(draw: st.DrawFn, choice: Choices) -> list[LayerAssignment]:
    return [
        LayerAssignment(attention=draw(st.sampled_from(a)), ffn=draw(st.sampled_from(f))) for a, f in choice
    ]


@settings(max_examples=cases(200), deadline=None)
@given(choices, tallies() | likenesses() | comparisons(), st.data())
def test_a_formula_means_what_python_says(choice: Choices, case: Case, data: st.DataObject) -> None:
    formula = formula_of(choice, case[0])
    for _ in range(6):
        child = data.draw(children(choice))
        wanted = case[1](child)
        if formula is None:
            settled = [case[1](other) for other in (data.draw(children(choice)), child)]
            assert settled == [wanted] * 2
            continue
        assert holds(formula, dict(enumerate(child))) is wanted
        some = data.draw(st.sets(st.integers(0, LAYERS - 1)))
        partly = holds(formula, {i: child[i] for i in some})
        assert partly in (None, wanted)  # what is known of a part never turns out otherwise


# ---------------------------------------------------------------- nodes


def test_the_tables_of_this_file_are_the_languages(tmp_path: Path) -> None:
    choice: Choices = ((tuple(ATTENTION), tuple(FFN)),) * LAYERS
    program = program_of(choice, "layers[0].ffn is noop", tmp_path)
    layer, shape = program.spaces["w"].layers[0], program.parents["p"].shape
    assert {a.name: fact(a, "kv_heads", shape) for a in layer.attention} == HEADS
    assert {f.name: fact(f, "width", shape) for f in layer.ffn} == WIDTH
