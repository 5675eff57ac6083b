"""The proof of a search, and its regrets, in words."""

from __future__ import annotations

import math
from collections.abc import Callable

from puzzledsl.ir.tables import Move, Regret, SubBlockRegrets, WhyResult

STATUS = {
    "optimal": "Proven: no child of the space does better by more than the gap",
    "feasible": "The best found in the time given; the bound says how much better another could be",
    "infeasible": "Proven: no child of the space meets every requirement",
    "unknown": "No child was found in the time given, and none was excluded",
}
CANNOT = "cannot be met"


def regret_text(regret: Regret | Move, figure: Callable[[float], str]) -> str:
    """A regret as text: `0.021`, `0.012 to 0.020`, `at least 0.012`, `not known`, `cannot be met`."""
    if regret.at_least is None:
        return CANNOT
    if regret.at_most is None:
        return "not known" if regret.at_least <= 0 else f"at least {figure(regret.at_least)}"
    if regret.at_most == regret.at_least:
        return figure(regret.at_most)
    return f"{figure(regret.at_least)} to {figure(regret.at_most)}"


def told(regret: Regret) -> str:
    """A regret in words: `+0.021`, `costs 0.02 or more`, `cannot be met`."""
    if regret.at_least is None:
        return CANNOT
    if regret.at_most is None:
        return f"costs {regret.at_least:.3g} or more"
    return " to ".join(dict.fromkeys((_signed(regret.at_least), _signed(regret.at_most))))


def _signed(value: float) -> str:
    sign = "−" if value < 0 else "+" if value > 0 else "±"
    return f"{sign}{abs(value):.3g}"


def by_regret(sub_block: SubBlockRegrets) -> list[Regret]:
    """The alternatives, the best first: the chosen one, those that are known, those between bounds, those that cannot be."""

    def key(regret: Regret) -> tuple[bool, float, float]:
        least = math.inf if regret.at_least is None else regret.at_least
        most = math.inf if regret.at_most is None or regret.at_least is None else regret.at_most
        return regret.alternative != sub_block.chosen, most, least

    return sorted(sub_block.regrets, key=key)


def next_best(sub_block: SubBlockRegrets) -> Regret | None:
    """The best of the alternatives that are not chosen; None where there is only one."""
    others = [regret for regret in by_regret(sub_block) if regret.alternative != sub_block.chosen]
    return others[0] if others else None


def is_negligible(result: WhyResult, regret: Regret) -> bool:
    """Proven to cost next to nothing."""
    return regret.at_most is not None and regret.at_most <= result.negligible
