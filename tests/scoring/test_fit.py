"""Scores fitted to children that were measured whole, and the children that are drawn for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.ir.nodes import Shape
from puzzledsl.scoring.fit import FEWEST, SATURATIONS, Floats, Places, Rows, drawn, fitted, saturated
from puzzledsl.scoring.replacements import Replacement

R, P, V = 12, 40, 9
SHAPE = Shape(
    family="llama",
    hidden=32,
    layers=6,
    vocab=100,
    heads=4,
    kv_heads=2,
    head_dim=8,
    intermediate=48,
    tied=True,
)
CHANCE = np.random.default_rng(0)
CHILDREN: list[Rows] = [
    tuple(sorted(CHANCE.choice(R, size, replace=False).tolist()))
    for size in (2, 3, 4, 5, 6, 8, 9, 10, 11, 12)
]


def logits(scale: float) -> tuple[Floats, Floats]:
    """A parent's log-probabilities [P, V] and centred changes that add up, [R, P, V]."""
    chance = np.random.default_rng(1)
    z = chance.normal(size=(P, V))
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    change = scale * (chance.normal(size=(R, P, V)) + 0.7 * chance.normal(size=(P, V)))  # correlated
    return log_p, change - (np.exp(log_p) * change).sum(-1, keepdims=True)


def kl(log_p: Floats, change: Floats) -> Floats:
    """Exact figures of every position."""
    child = log_p + change
    child = child - np.log(np.exp(child).sum(-1, keepdims=True))
    return np.asarray((np.exp(log_p) * (log_p - child)).sum(-1))


def case(scale: float) -> tuple[Floats, list[tuple[Rows, float]]]:
    log_p, change = logits(scale)
    singles = np.stack([kl(log_p, d) for d in change])
    children = [(rows, float(kl(log_p, change[list(rows)].sum(0)).mean())) for rows in CHILDREN]
    return singles, children


@pytest.mark.parametrize("saturation", [0.4, 1.6])
def test_positions_that_saturate_are_found(saturation: float) -> None:
    chance = np.random.default_rng(2)
    singles = chance.lognormal(-1, 2, size=(R, P))
    values = 1.2 * saturated(singles, saturation)
    children = [(rows, float(values[list(rows)].sum())) for rows in CHILDREN]
    form = fitted(singles, children)
    assert form.fit is not None and form.fit.saturation_nats == saturation
    assert form.fit.scale == pytest.approx(1.2) and form.fit.error_most < 1e-9
    assert form.singles_R == pytest.approx(values)


def test_errors_are_of_children_that_the_fit_has_not_seen() -> None:
    singles, children = case(0.3)
    fit = fitted(singles, children).fit
    assert fit is not None
    errors = []
    for left_out, (rows, true) in enumerate(children):
        others = fitted(singles, [c for i, c in enumerate(children) if i != left_out])
        errors.append(sum(others.singles_R[list(rows)]) / true - 1)
    assert fit.error_rms == pytest.approx(math.sqrt(np.mean(np.square(errors))))
    assert fit.error_most == pytest.approx(max(map(abs, errors)))


def test_few_children_and_children_that_change_nothing_are_not_fitted_to() -> None:
    singles, children = case(0.3)
    for few in (children[: FEWEST - 1], [(rows, 0.0) for rows, _ in children]):
        form = fitted(singles, few)
        assert form.fit is None
        assert form.singles_R == pytest.approx(singles.mean(axis=1))


def test_saturation_only_takes_away_and_less_from_what_is_small() -> None:
    small, large = np.full((1, P), 1e-6), np.full((1, P), 10.0)
    bounds = [g for g in SATURATIONS if math.isfinite(g)]
    assert all(saturated(small, g)[0] == pytest.approx(1e-6, rel=1e-4) for g in bounds)
    values = [saturated(large, g)[0] for g in SATURATIONS]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(10)


# ---------------------------------------------------------------- children


def places(layers: int = 6) -> tuple[Places, Floats]:
    alternatives = (GqaAttention(kv_heads=1), NoOpAttention()), (MlpFfn(width=16), NoOpFfn())
    todo = [
        Replacement(layer, table, str(at), ((table, alternative, None),))  # type: ignore[arg-type]
        for layer in range(layers)
        for table, of_table in zip(("attention", "ffn"), alternatives, strict=True)
        for at, alternative in enumerate(of_table)
    ]
    value = np.random.default_rng(3).lognormal(-3, 1, size=len(todo))
    return Places.of(todo, SHAPE), value


def test_children_are_distinct_valid_and_of_all_sizes() -> None:
    where, value = places()
    found = drawn(where, value, 16, 0, [])
    assert len(found) >= 12 and len(set(found)) == len(found)
    for rows in found:
        assert len(rows) > 1 and list(rows) == sorted(rows)
        assert all(sum(row in rows for row in place) <= 1 for place in where.rows), "one choice a place"
    most = sum(where.saved_R[list(place)].max() for place in where.rows)
    shares = [where.saved_R[list(rows)].sum() / most for rows in found]
    assert min(shares) < 0.3 and max(shares) > 0.6
    assert drawn(where, value, 16, 0, []) == found, "deterministic"
    assert not set(drawn(where, value, 16, 0, found)) & set(found), "what is known is not drawn again"


def test_a_child_without_noise_is_the_best_of_its_size() -> None:
    where, value = places(layers=2)
    for share in (0.2, 0.5, 0.7):
        rows = where.saving(value, share)
        score, saved = value[list(rows)].sum(), where.saved_R[list(rows)].sum()
        for other in _all(where):
            if where.saved_R[other].sum() >= saved:
                assert value[other].sum() >= score * (1 - 1e-9)


def _all(where: Places) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for place in where.rows:
        found = [[*rows, *more] for rows in found for more in ([], *([row] for row in place))]
    return found
