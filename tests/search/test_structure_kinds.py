"""Every kind of structure is true of exactly the models that it describes: of all models of a few layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise, product

import numpy as np
import pytest

from benchmarks.structure_kinds import KINDS, Count, Menu
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.columns import Columns
from tests.search.structured import truth

LAYERS = 5
HEADS = {"parent": 8, "linear": 0, "noop": 0}
WIDTHS = {"parent": 16, "mlp8": 8, "noop": 0}
MENU = Menu(LAYERS, HEADS, WIDTHS)
PAIRS = tuple(LayerAssignment(attention=a, ffn=f) for a, f in product(HEADS, WIDTHS))
PARENT = LayerAssignment(attention="parent", ffn="parent")
DROPPED = LayerAssignment(attention="noop", ffn="noop")
Model = Sequence[LayerAssignment]


def heads(model: Model) -> list[int]:
    return [HEADS[c.attention] for c in model]


def widths(model: Model) -> list[int]:
    return [WIDTHS[c.ffn] for c in model]


def without(model: Model) -> list[bool]:
    """The layers without attention."""
    return [c.attention == "noop" for c in model]


def runs(flags: Sequence[bool]) -> list[int]:
    """The lengths of runs of what is true."""
    return [len(list(run)) for value, run in groupby(flags) if value]


def never_grows(values: Sequence[int]) -> bool:
    return all(a >= b for a, b in pairwise(values))


def is_hill(values: Sequence[int]) -> bool:
    return any(
        never_grows(values[: peak + 1][::-1]) and never_grows(values[peak:]) for peak in range(len(values))
    )


# what its docstring says of a model of five layers; kinds with random parts have tests of their own
MEANINGS: dict[str, Callable[[Model], bool]] = {
    "one_width": lambda m: len(set(widths(m))) == 1,
    "groups_of_four": lambda m: m[0] == m[1] == m[2] == m[3],
    "interleaved": lambda m: (m[0], m[1]) == (m[2], m[3]),
    "mirrored": lambda m: (m[0], m[1]) == (m[4], m[3]),
    "paired_attention": lambda m: m[0].attention == m[1].attention and m[2].attention == m[3].attention,
    "frozen_ends": lambda m: m[0] == m[4] == PARENT and m[1] == m[2],
    "dropped_run": lambda m: [*m].count(DROPPED) == 1,
    "one_run": lambda m: len(runs(without(m))) == 1,
    "short_gaps": lambda m: max(runs(without(m)), default=0) <= 2,
    "full_windows": lambda m: max(runs([c.attention != "parent" for c in m]), default=0) <= 3,
    "every_third": lambda m: m[0] in (PARENT, DROPPED) and m[3] in (PARENT, DROPPED),
    "alternating": lambda m: all((a > 0) != (b > 0) for a, b in pairwise(heads(m))),
    "narrowing": lambda m: never_grows(widths(m)) and max(runs(without(m)), default=0) <= 1,
    "fewer_heads": lambda m: never_grows(heads(m)),
    "width_steps": lambda m: all({a, b} != {0, 16} for a, b in pairwise(widths(m))),
    "width_hill": lambda m: is_hill(widths(m)),
    "two_widths": lambda m: len(set(widths(m))) <= 2,
    "few_sizes": lambda m: len(set(heads(m))) <= 2 and len(set(widths(m))) <= 3,
    "linear_or_noop": lambda m: not {"linear", "noop"} <= {c.attention for c in m},
}  # fmt: skip
RANDOM = {"some_tied", "exact_counts", "chains"}


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) | RANDOM == set(KINDS)


@pytest.fixture(scope="module")
def columns() -> Columns:
    return Columns.of((PAIRS,) * LAYERS)


@pytest.fixture(scope="module")
def models(columns: Columns) -> np.ndarray:
    """All of them, [model][layer]."""
    return np.array([*product(*(range(9 * i, 9 * i + 9) for i in range(LAYERS)))], dtype=np.int64)


@pytest.mark.parametrize("kind", MEANINGS)
def test_a_kind_is_true_of_what_it_describes(kind: str, columns: Columns, models: np.ndarray) -> None:
    met = np.ones(len(models), dtype=np.bool_)
    for part in KINDS[kind](MENU, np.random.default_rng(0)):
        assert not isinstance(part, Count)
        met &= truth(columns, models, part)
    places = (models % len(PAIRS)).tolist()
    wanted = [MEANINGS[kind]([PAIRS[p] for p in model]) for model in places]
    assert met.tolist() == wanted
    assert (
        0 < sum(wanted) < len(wanted) or kind == "few_sizes"
    )  # which five layers of three widths always meet


@pytest.mark.parametrize("seed", range(5))
def test_random_kinds_follow_their_seed(seed: int, columns: Columns, models: np.ndarray) -> None:
    def met(kind: str) -> list[bool]:
        found = np.ones(len(models), dtype=np.bool_)
        for part in KINDS[kind](MENU, np.random.default_rng(seed)):
            if not isinstance(part, Count):
                found &= truth(columns, models, part)
        return found.tolist()

    places = (models % len(PAIRS)).tolist()
    all_alike, parent = [len(set(model)) == 1 for model in places], places.index([0] * LAYERS)
    tied = met("some_tied")
    assert sum(tied) == len(PAIRS) ** (LAYERS - 1)  # two of five layers alike
    assert all(t for t, alike in zip(tied, all_alike, strict=True) if alike)
    assert met("chains")[parent] and not all(met("chains"))
    counts = [p for p in KINDS["exact_counts"](MENU, np.random.default_rng(seed)) if isinstance(p, Count)]
    assert [c.exactly for c in counts] == [1, 1] and counts[0].names == ("noop",)
