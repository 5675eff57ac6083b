"""Searches whose true loss is no sum: what is measured beside the scores of a table."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from random import Random

from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.ir.tables import LayerAssignment, RunScore
from tests.search.instances import ATTENTION, FFN, Instance, chat, measured, plain_instance, require

COUNT = 8
LAYER = LayerChoice(attention=(ATTENTION[0], ATTENTION[1], ATTENTION[4]), ffn=(FFN[0], FFN[1], FFN[4]))


def instance(seed: int, *, ratio: Fraction = Fraction(1, 2)) -> Instance:
    """Eight layers, of whose latency a share may be left; replacements and runs of up to four layers are scored."""
    limit = require(chat("latency"), "<=", ratio=ratio)
    made = measured(plain_instance((LAYER,) * COUNT, requirements=(limit,)))
    rng = Random(seed)
    attention = tuple(_scores(rng, [a.name for a in LAYER.attention]) for _ in range(COUNT))
    ffn = tuple(_scores(rng, [f.name for f in LAYER.ffn]) for _ in range(COUNT))
    alone = [a["noop"] + f["noop"] for a, f in zip(attention, ffn, strict=True)]
    runs = tuple(
        RunScore(first=first, length=length, value=0.9 * sum(alone[first : first + length]))
        for first in range(COUNT)
        for length in range(2, 5)
        if first + length <= COUNT
    )
    changes = {"attention": attention, "ffn": ffn, "runs": runs, "offset": 0.0}
    return Instance(made.program, made.costs, {"kl": made.scores["kl"].model_copy(update=changes)})


def _scores(rng: Random, names: Sequence[str]) -> dict[str, float]:
    """A layer's scores: 0 for the parent, more for each next alternative."""
    steps = [0.0, *(rng.uniform(0.02, 0.2) for _ in names[1:])]
    return {name: sum(steps[: place + 1]) for place, name in enumerate(names)}


def changed(child: Sequence[LayerAssignment]) -> list[int]:
    """Layers without attention that still have their FFN: each takes what the others relied on."""
    return [i for i, layer in enumerate(child) if layer.attention == "noop" != layer.ffn]


def loss(predicted: float, child: Sequence[LayerAssignment]) -> float:
    """A loss with interactions: the sum, and a third of it for every two layers that lost their attention alone."""
    return predicted * (1 + len(list(combinations(changed(child), 2))) / 3)
