"""Inside one layer any arithmetic is allowed: what it lowers to means what it says, for every child there is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from puzzledsl.costs.table import cost_table
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.checker.programs import lowered, mistakes
from tests.oracles import all_children, brute_force, objective

PROGRAM = """\
parent p = shape(family: llama, layers: 2, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = gqa(kv_heads: 4 | 2) | linear | noop, ffn = mlp(width: 100% | 50%) | noop }
score kl of w = table("kl.csv")
"""
KV_HEADS = {"parent": 4, "gqa2": 2, "linear": 0, "noop": 0}
WIDTHS = {"parent": 192, "mlp96": 96, "noop": 0}
SCORES = {
    "attention": ({"gqa2": 0.2, "linear": 0.5, "noop": 0.4}, {"gqa2": 0.1, "linear": 0.7, "noop": 0.9}),
    "ffn": ({"mlp96": 0.3, "noop": 0.6}, {"mlp96": 0.25, "noop": 0.8}),
}


class Layer(NamedTuple):
    """One layer of a child, as a test's own arithmetic sees it."""

    attention: str
    ffn: str

    @property
    def kv(self) -> int:
        return KV_HEADS[self.attention]

    @property
    def width(self) -> int:
        return WIDTHS[self.ffn]


Law = Callable[[Sequence[Layer]], bool]
LAWS: dict[str, Law] = {
    "layers[0].attention.kv_heads * layers[0].ffn.width <= 384": lambda c: c[0].kv * c[0].width <= 384,
    "sum(l.attention.kv_heads * l.ffn.width for l in layers) <= 0.5x": lambda c: (
        sum(x.kv * x.width for x in c) <= 0.5 * 2 * 4 * 192
    ),
    "sum(min(l.attention.kv_heads, 2) for l in layers) <= 3": lambda c: sum(min(x.kv, 2) for x in c) <= 3,
    "sum(max(100, l.ffn.width, 48 * l.attention.kv_heads) for l in layers) <= 250": lambda c: (
        sum(max(100, x.width, 48 * x.kv) for x in c) <= 250
    ),
    "mean(attention.kv_heads) >= 1.5": lambda c: sum(x.kv for x in c) / 2 >= 1.5,
    "sum(if l.attention is noop then l.ffn.width else 10 for l in layers) <= 110": lambda c: (
        sum(x.width if x.attention == "noop" else 10 for x in c) <= 110
    ),
    "count(l is noop for l in layers) == 1": lambda c: sum(x == ("noop", "noop") for x in c) == 1,
    "layers[0].attention.kv_heads * layers[0].ffn.width >= 384 implies layers[1].ffn is noop": lambda c: (
        c[0].kv * c[0].width < 384 or c[1].ffn == "noop"
    ),
    "layers[0].attention.kv_heads >= 4 or layers[1].ffn.width >= 0.5x": lambda c: c[0].kv >= 4 or c[1].width >= 96,
    "layers[0].attention.kv_heads != 2 and layers[1].ffn.width != layers[1].attention.kv_heads": lambda c: (
        c[0].kv != 2 and c[1].width != c[1].kv
    ),
    "not (layers[0].ffn.width <= 96 and layers[1] is noop)": lambda c: (
        not (c[0].width <= 96 and c[1] == ("noop", "noop"))
    ),
    "all(l.attention.kv_heads + l.ffn.width >= 1 for l in layers)": lambda c: all(x.kv + x.width >= 1 for x in c),
    "any(l.ffn.width == 48 * l.attention.kv_heads for l in layers)": lambda c: any(x.width == 48 * x.kv for x in c),
    "layers[0].attention is not (noop | gqa(kv_heads: <= 2))": lambda c: c[0].attention not in ("noop", "gqa2"),
    "sum(l.attention.kv_heads for l in layers where l.index > 0) <= 2": lambda c: c[1].kv <= 2,
    "layers[0].ffn.width * 0 + layers[1].ffn.width <= 96": lambda c: c[1].width <= 96,
    # what cancels out is the constant that is left
    "(layers[0].ffn.width - layers[0].ffn.width + 2) * layers[1].ffn.width <= 200": lambda c: c[1].width <= 100,
    "sum(ffn.width) / (sum(ffn.width) - sum(ffn.width) + 2) <= 100": lambda c: sum(x.width for x in c) <= 200,
    "layers[sum(ffn.width) - sum(ffn.width) + 1].ffn is noop": lambda c: c[1].ffn == "noop",
    "max(layers[0].ffn.width) <= 96": lambda c: c[0].width <= 96,
    "min(sum(ffn.width)) <= 96": lambda c: sum(x.width for x in c) <= 96,
    "(if layers[0].ffn.width >= 0 then layers[1].ffn.width else 1000) <= 96": lambda c: c[1].width <= 96,
    "sum(if l.ffn is noop implies l.attention is noop then 1 else 3 for l in layers) <= 4": lambda c: (
        sum(3 if x.ffn == "noop" and x.attention != "noop" else 1 for x in c) <= 4
    ),
    "sum(if l.ffn is noop or l.attention is noop then 1 else 3 for l in layers) <= 4": lambda c: (
        sum(1 if "noop" in x else 3 for x in c) <= 4
    ),
    "count(layers[0].ffn.width >= 0, layers[1].attention is noop) <= 1": lambda c: c[1].attention != "noop",
    # constants fold away
    "layers[0].ffn is noop and p.layers == 2": lambda c: c[0].ffn == "noop",
    "p.layers == 3 or layers[0].ffn is noop": lambda c: c[0].ffn == "noop",
    "layers[0].ffn is noop or layers[0].ffn.width < 0": lambda c: c[0].ffn == "noop",
    "layers[0].ffn.width >= 0 implies layers[1].ffn is noop": lambda c: c[1].ffn == "noop",
    "layers[0].ffn is noop implies p.layers == 3": lambda c: c[0].ffn != "noop",
    # several layers
    "layers[0].attention is noop and layers[1].attention is linear": lambda c: (
        (c[0].attention, c[1].attention) == ("noop", "linear")
    ),
    "not layers[0].ffn is (parent | mlp)": lambda c: c[0].ffn == "noop",
    "layers[0].ffn is noop implies layers[1].ffn is noop": lambda c: c[0].ffn != "noop" or c[1].ffn == "noop",
    "any(l.attention is linear for l in layers)": lambda c: any(x.attention == "linear" for x in c),
    "not layers[0].ffn.width == layers[1].ffn.width or layers[0] is noop": lambda c: (
        c[0].ffn != c[1].ffn or c[0] == ("noop", "noop")
    ),
    "layers[1] is noop": lambda c: c[1] == ("noop", "noop"),
    "layers[1] is not parent": lambda c: c[1] != ("parent", "parent"),
    "count(not (attention is noop)) <= 1": lambda c: sum(x.attention != "noop" for x in c) <= 1,
    "count(not (ffn is not mlp)) <= 1": lambda c: sum(x.ffn != "noop" for x in c) <= 1,
    "count(layers[[0, 1]].ffn is noop) <= 1": lambda c: sum(x.ffn == "noop" for x in c) <= 1,
}  # fmt: skip


@pytest.mark.states("require.logic", "require.layer")
@pytest.mark.parametrize("condition", LAWS)
def test_it_means_what_it_says_and_the_search_finds_the_best_child_that_meets_it(
    tmp_path: Path, condition: str
) -> None:
    program = lowered(tmp_path, PROGRAM + f"search s of w {{\n  minimize kl\n  require {condition}\n}}\n")
    scores = {"kl": ScoreTable(score="kl", metric="table", samples=0, **SCORES)}  # type: ignore[arg-type]
    known = tables_of(program, "s", cost_table(program, "w"), scores)
    both = set()
    for child in all_children(known):
        wanted = LAWS[condition]([Layer(x.attention, x.ffn) for x in child.layers])
        assert all(child.meets(r) for r in known.search.requirements) == wanted, child.layers
        both.add(wanted)
    assert both == {True, False}
    result = solve_search(program, "s", known.costs, known.scores)
    best = brute_force(program, "s", known.costs, known.scores)[0]
    assert result.status == "optimal"
    assert result.solutions[0].objective == float(objective(best))


def test_a_figure_is_of_the_choice_that_the_layer_has_by_then(tmp_path: Path) -> None:
    half = "  layers[0].ffn |= mlp(width: if layers[0].ffn.width * 2 == 32 then 25% else 50%)\n"
    shape = "layers: 1, hidden: 16, heads: 4, kv_heads: 4, head_dim: 4, intermediate: 32, vocab: 50"
    text = f"parent p = shape(family: llama, {shape})\nspace w of p {{\n  ffn = parent | noop\n{half}"
    lowered(tmp_path, f"{text}}}\n")
    assert mistakes(tmp_path, f"{text}{half}}}\n") == [("E0307", 5)]
