"""Regrets of choices and margins of requirements (`pzl why`)."""

from __future__ import annotations

import math
from typing import Literal

from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact


class Regret(Frozen):
    """Rise of the optimum with one alternative fixed in one sub-block, and all else chosen anew.

    In the unit of the objective. It is proven to be `at_least`, and a verified child has `at_most`; both are equal if it is
    exact. Both None: no child with it meets the requirements. `at_most` alone None: no child with it was found in time.
    """

    alternative: str
    at_least: float | None
    at_most: float | None


class SubBlockRegrets(Frozen):
    """The regrets of one sub-block's alternatives, in the order of the space. `chosen` is the optimum's: its regret is 0."""

    layer: int
    sub_block: Literal["attention", "ffn"]
    chosen: str
    regrets: tuple[Regret, ...]


class Move(Frozen):
    """A requirement's bound moved, and how much worse the optimum gets (negative: better), as a `Regret` says it.

    "tighter" and "looser" are away from and towards what could be had without it; "up" and "down" are an equation's; "without"
    drops it. `by`: "1 %", or "1" for a requirement that counts. `bound` is the new one, in base units or times the parent's.
    """

    kind: Literal["tighter", "looser", "up", "down", "without"]
    by: str = ""
    bound: float | None = None
    at_least: float | None
    at_most: float | None


class Margin(Frozen):
    """Price of one `require`. Moves that time did not suffice for are left out."""

    line: int
    text: str
    because: str = ""
    moves: tuple[Move, ...]


class WhyResult(Artefact):
    """`build/why/SEARCH.json`: regrets of every choice, and margins of every requirement.

    `proven`: no child is better than `objective`. `negligible`: a regret up to this value is not worth choosing for.
    """

    search: str
    sense: Literal["minimize", "maximize"]
    objective: float
    proven: bool
    negligible: float
    sub_blocks: tuple[SubBlockRegrets, ...]
    margins: tuple[Margin, ...] = ()


def by_regret(sub_block: SubBlockRegrets) -> list[Regret]:
    """The alternatives, the best first: the chosen one, those that are known, those between bounds, those that cannot be."""
    return sorted(
        sub_block.regrets, key=lambda regret: (regret.alternative != sub_block.chosen, *_key(regret))
    )


def next_best(sub_block: SubBlockRegrets) -> Regret | None:
    """The best of the alternatives that are not chosen; None where there is only one."""
    others = [regret for regret in by_regret(sub_block) if regret.alternative != sub_block.chosen]
    return others[0] if others else None


def is_negligible(result: WhyResult, regret: Regret) -> bool:
    """Proven to cost next to nothing."""
    return regret.at_most is not None and regret.at_most <= result.negligible


def indifferent(result: WhyResult) -> tuple[list[SubBlockRegrets], list[SubBlockRegrets]]:
    """Return the sub-blocks with a negligible regret: for every alternative, and for one that is not chosen.

    Sub-blocks without a choice are left out.
    """
    every, some = [], []
    for sub_block in result.sub_blocks:
        others = [regret for regret in sub_block.regrets if regret.alternative != sub_block.chosen]
        free = [is_negligible(result, regret) for regret in others]
        if free and all(free):
            every.append(sub_block)
        elif any(free):
            some.append(sub_block)
    return every, some


def _key(regret: Regret) -> tuple[float, float]:
    if regret.at_least is None:
        return math.inf, math.inf
    return math.inf if regret.at_most is None else regret.at_most, regret.at_least
