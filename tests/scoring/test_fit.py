"""Scores fitted to whole children: the second-order theory where changes are small, what was measured where they are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.ir.nodes import Shape
from puzzledsl.scoring.draw import Floats, Places, Rows, drawn
from puzzledsl.scoring.fit import FEWEST, SATURATIONS, Form, fitted, saturated
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
    """Of every position, exactly."""
    child = log_p + change
    child = child - np.log(np.exp(child).sum(-1, keepdims=True))
    return np.asarray((np.exp(log_p) * (log_p - child)).sum(-1))


def covariance(log_p: Floats, change: Floats) -> Floats:
    return np.asarray(np.einsum("pv,rpv,spv->rs", np.exp(log_p), change, change) / P)


def case(scale: float) -> tuple[Floats, Floats, list[tuple[Rows, float]]]:
    log_p, change = logits(scale)
    singles = np.stack([kl(log_p, d) for d in change])
    children = [(rows, float(kl(log_p, change[list(rows)].sum(0)).mean())) for rows in CHILDREN]
    return singles, covariance(log_p, change), children


def test_small_changes_that_add_up_are_the_theory() -> None:
    singles, covariances, children = case(1e-3)
    form = fitted(singles, covariances, children)
    assert form.fit is not None and form.fit.error_most < 0.01
    assert form.fit.pairs == pytest.approx(1, abs=0.01) and form.fit.scale == pytest.approx(1, abs=0.01)
    assert form.fit.saturation_nats is None
    for rows, true in children:
        assert form.of(rows) == pytest.approx(true, rel=0.01)
    alone = fitted(singles, None, children).fit
    assert alone is not None and alone.error_rms > 10 * form.fit.error_rms, "a sum alone does not say it"


@pytest.mark.parametrize("saturation", [0.4, 1.6])
def test_positions_that_saturate_are_found_and_covariances_get_no_weight(saturation: float) -> None:
    chance = np.random.default_rng(2)
    singles = chance.lognormal(-1, 2, size=(R, P))
    values = 1.2 * saturated(singles, saturation)
    children = [(rows, float(values[list(rows)].sum())) for rows in CHILDREN]
    noise = chance.normal(size=(R, R))
    form = fitted(singles, noise @ noise.T, children)
    assert form.fit is not None
    assert (form.fit.saturation_nats, form.fit.pairs) == (saturation, 0)
    assert form.fit.scale == pytest.approx(1.2) and form.fit.error_most < 1e-9
    assert not form.pairs_RR.any()
    assert form.singles_R == pytest.approx(values)


def test_the_weight_of_covariances_is_between_0_and_1() -> None:
    singles, covariances, _ = case(0.05)
    sums = singles.mean(axis=1)
    pairs = covariances - np.diag(np.diag(covariances))
    for weight, expected in ((-0.05, 0.0), (0.5, 0.5), (3.0, 1.0)):
        measured = [
            (rows, float(sums[list(rows)].sum() + weight * pairs[np.ix_(rows, rows)].sum() / 2))
            for rows in CHILDREN
        ]
        found = fitted(singles, covariances, measured).fit
        assert found is not None and found.pairs == pytest.approx(expected, abs=1e-3)


def test_errors_are_of_children_that_the_fit_has_not_seen() -> None:
    singles, _, children = case(0.3)
    fit = fitted(singles, None, children).fit
    assert fit is not None
    errors = []
    for left_out, (rows, true) in enumerate(children):
        others = fitted(singles, None, [c for i, c in enumerate(children) if i != left_out])
        errors.append(others.of(rows) / true - 1)
    assert fit.error_rms == pytest.approx(math.sqrt(np.mean(np.square(errors))))
    assert fit.error_most == pytest.approx(max(map(abs, errors)))


def test_few_children_and_children_that_change_nothing_are_not_fitted_to() -> None:
    singles, covariances, children = case(0.3)
    for few in (children[: FEWEST - 1], [(rows, 0.0) for rows, _ in children]):
        form = fitted(singles, covariances, few)
        assert form.fit is None and (form.pairs_RR == covariances).all()
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
    none = np.zeros((len(value), len(value)))
    found = drawn(where, value, none, 16, 0, [])
    assert len(found) >= 12 and len(set(found)) == len(found)
    for rows in found:
        assert len(rows) > 1 and list(rows) == sorted(rows)
        assert all(sum(row in rows for row in place) <= 1 for place in where.rows), "one choice a place"
    most = sum(where.saved_R[list(place)].max() for place in where.rows)
    shares = [where.saved_R[list(rows)].sum() / most for rows in found]
    assert min(shares) < 0.3 and max(shares) > 0.6
    assert drawn(where, value, none, 16, 0, []) == found, "deterministic"
    assert not set(drawn(where, value, none, 16, 0, found)) & set(found), "what is known is not drawn again"


def test_a_child_without_noise_is_the_best_of_its_size() -> None:
    where, value = places(layers=2)
    none = np.zeros((len(value), len(value)))
    for share in (0.2, 0.5, 0.7):
        rows = where.saving(value, none, share)
        score, saved = value[list(rows)].sum(), where.saved_R[list(rows)].sum()
        for other in _all(where):
            if where.saved_R[other].sum() >= saved:
                assert value[other].sum() >= score * (1 - 1e-9)


def _all(where: Places) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for place in where.rows:
        found = [[*rows, *more] for rows in found for more in ([], *([row] for row in place))]
    return found


def test_covariances_pull_and_push() -> None:
    where, _ = places(layers=1)
    value, pairs = np.full(4, 1.0), np.zeros((4, 4))
    saved = float(where.saved_R.max())
    assert len(where.cheapest(value, pairs, 2 / saved)) >= 1
    pairs[:2, 2:] = pairs[2:, :2] = 100.0
    assert len(where.cheapest(value, pairs, 2 / saved)) <= 1, "two that add up are not chosen together"


def test_a_form_counts_each_pair_once() -> None:
    pairs = np.array([[9.0, 1.0, 2.0], [1.0, 9.0, 4.0], [2.0, 4.0, 9.0]])
    assert Form(np.array([0.5, 0.25, 0.125]), pairs).of((0, 1, 2)) == 0.875 + 7
    assert Form(np.array([0.5, 0.25, 0.125]), pairs).of((1,)) == 0.25
