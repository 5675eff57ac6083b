"""Costs that are known come back out of rounds made from them, whatever the machine did meanwhile."""

import random
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.measure.estimate import Phase, Round, estimate
from puzzledsl.measure.host import balanced, kind_of, label

DEPTH = 12
TRUE = {
    "attention": {"parent": 2.0, "gqa1": 1.7, "linear": 0.5, "noop": 0.02},
    "ffn": {"parent": 4.0, "mlp8": 2.2, "noop": 0.01},
}
FIXED_S = 9.0


def rounds(
    seed: int, *, noise: float, interrupted: float, overhead: float = 1.0, count: int = 8
) -> list[Round]:
    """Forwards 1 … 3 times as slow as usual; blocks off by `noise`, some of them interrupted for long."""
    dice = random.Random(seed)

    def disturbed(seconds: float) -> float:
        held_up = dice.expovariate(1 / 5) if dice.random() < interrupted else 0.0
        return seconds * (1 + dice.uniform(-noise, noise)) + held_up

    whole = FIXED_S + DEPTH * (TRUE["attention"]["parent"] + TRUE["ffn"]["parent"])
    made = []
    for index in range(count):
        names = balanced({s: tuple(TRUE[s]) for s in TRUE}, (0,) * DEPTH, index)
        slow = dice.choice([1.0, 1.0, 1.4, 3.0])
        laps = []
        for _ in range(6):
            blocks = {s: tuple(slow * disturbed(TRUE[s][n]) for n in names[s]) for s in TRUE}
            fixed = slow * disturbed(FIXED_S)
            laps.append((fixed / 2, *chain(*zip(blocks["attention"], blocks["ffn"], strict=True)), fixed / 2))
        phase = Phase(parent=tuple(slow * overhead * whole for _ in range(4)), laps=tuple(laps))
        made.append(
            Round(seed=index, attention=names["attention"], ffn=names["ffn"], prefill=phase, decode=phase)
        )
    return made


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), overhead=st.sampled_from([1.0, 1.1]))
def test_sums_predict_wholes(seed, overhead):
    found = estimate(rounds(seed, noise=0.03, interrupted=0.15, overhead=overhead), lambda r: r.decode)
    child = ["noop", "gqa1", "linear"] * 4, ["mlp8", "parent", "noop"] * 4
    wanted = FIXED_S + sum(TRUE["attention"][n] for n in child[0]) + sum(TRUE["ffn"][n] for n in child[1])
    whole = FIXED_S + DEPTH * 6.0
    assert found.parent_s / found.sum_of(*child) == pytest.approx(whole / wanted, rel=0.03)
    assert found.sum_of(["parent"] * DEPTH, ["parent"] * DEPTH) == pytest.approx(found.parent_s)
    assert found.scale == pytest.approx(overhead, rel=0.05)


def test_layers_of_two_kinds_have_their_own_times():
    """Odd layers take twice as long as even ones, whatever they hold."""
    kinds = (0, 1) * 6
    labels = {s: tuple(label(name, kind) for kind in (0, 1) for name in TRUE[s]) for s in TRUE}

    def seconds(sub_block: str, name: str) -> float:
        return TRUE[sub_block][name.partition("@")[0]] * (1 + kind_of(name))

    whole = FIXED_S + 6 * (1 + 2) * (TRUE["attention"]["parent"] + TRUE["ffn"]["parent"])
    made = []
    for index in range(12):
        names = balanced(labels, kinds, index)
        blocks = ([seconds(s, n) for n in names[s]] for s in TRUE)
        phase = Phase(parent=(whole,), laps=((FIXED_S, *chain(*zip(*blocks, strict=True)), 0.0),))
        made.append(Round(seed=index, **names, prefill=phase, decode=phase))
    found = estimate(made, lambda r: r.prefill)
    assert found.scale == pytest.approx(1) and found.parent_s == pytest.approx(whole)
    for sub_block in TRUE:
        for name in labels[sub_block]:
            assert found.seconds[sub_block, name] == pytest.approx(seconds(sub_block, name))
