"""Ranking of regrets: the next best alternative, and the choices that hardly matter."""

from __future__ import annotations

import math

from puzzledsl.ir.tables import Regret, SubBlockRegrets, WhyResult


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
