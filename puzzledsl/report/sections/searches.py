"""The proof of a search in words, and its regrets.

Heat map of regrets: one row per alternative, one column per layer, with the regret as the strength of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from puzzledsl.alternatives.alternative import EndName, Site, SubBlock
from puzzledsl.ir.tables import Margin, Move, Regret, SubBlockRegrets, WhyResult
from puzzledsl.report.numbers import Number
from puzzledsl.report.subject import Subject

STATUS = {
    "optimal": "Proven: no child of the space does better by more than the gap",
    "feasible": "The best found in the time given; the bound says how much better another could be",
    "infeasible": "Proven: no child of the space meets every requirement",
    "unknown": "No child was found in the time given, and none was excluded",
}


FAINTEST = 0.12  # of the full colour, for the smallest regret that counts
CANNOT = "cannot be met"
CLOSE = 1e-9  # of the objective: the search was solved again since
LABELS: tuple[tuple[SubBlock, str], ...] = (("attention", "Attention"), ("ffn", "FFN"))
ENDS: tuple[tuple[EndName, str], ...] = (("embedding", "Embedding"), ("head", "Head"))


@dataclass(frozen=True)
class HeatCell:
    """One alternative in one layer. `kind`: "chosen", "free", "costs", "cannot", "unknown", "absent"; `strength` is 0 to 1."""

    kind: str
    strength: float
    title: str


HeatRow = tuple[str, tuple[HeatCell, ...]]
"""One alternative's name, and its cells in every layer."""


@dataclass(frozen=True)
class Regrets:
    """The section. `free`: sub-blocks of which another alternative does as well, of `choices` with more than one."""

    why: WhyResult
    groups: tuple[tuple[str, tuple[HeatRow, ...]], ...]
    layers: tuple[int, ...]
    largest: float
    free: int
    choices: int

    @property
    def exact(self) -> bool:
        """True if every regret is proven."""
        return all(r.at_least == r.at_most for s in self.why.sub_blocks for r in s.regrets)


def regrets(subject: Subject) -> Regrets | None:
    """The main search's regrets; None where `pzl why` has not been run since it was solved."""
    why = subject.found.whys.get(subject.name)
    return heat_map(why) if why is not None and _is_current(subject, why) else None


def heat_map(why: WhyResult) -> Regrets:
    """Regrets of all layers as a picture."""
    largest = max((r.at_most or 0.0 for s in why.sub_blocks for r in s.regrets), default=0.0)
    there = {s.sub_block for s in why.sub_blocks}
    shown = (*LABELS, *(end for end in ENDS if end[0] in there))
    return Regrets(
        why=why,
        groups=tuple((label, tuple(_rows(why, sub_block, largest))) for sub_block, label in shown),
        layers=tuple(dict.fromkeys(s.layer for s in why.sub_blocks if s.sub_block not in dict(ENDS))),
        largest=largest,
        free=sum(map(len, indifferent(why))),
        choices=sum(len(s.regrets) > 1 for s in why.sub_blocks),
    )


def _is_current(subject: Subject, why: WhyResult) -> bool:
    """True where the regrets are of the solution and of the space as they are now."""
    result, layers = subject.result, subject.space.layers
    if result is None or result.objective is None or subject.optimum is None:
        return False
    within = (CLOSE + (result.gap or 0.0)) * max(abs(result.objective), abs(why.objective))
    names: dict[tuple[int, str], list[str]] = {
        (layer, sub_block): [a.name for a in getattr(choice, sub_block)]
        for layer, choice in enumerate(layers)
        for sub_block, _ in LABELS
    }
    if subject.space.ends is not None:
        names |= {(len(layers), site): [end.name for end in ends] for site, ends in subject.space.ends}
    found = {(s.layer, s.sub_block): [r.alternative for r in s.regrets] for s in why.sub_blocks}
    return abs(result.objective - why.objective) <= within and found == names


def _rows(why: WhyResult, sub_block: Site, largest: float) -> Iterator[HeatRow]:
    """A row an alternative, in the order of the space."""
    here = [s for s in why.sub_blocks if s.sub_block == sub_block]
    for name in dict.fromkeys(r.alternative for s in here for r in s.regrets):
        yield name, tuple(heat_cell(why, s, name, largest) for s in here)


def heat_cell(why: WhyResult, sub_block: SubBlockRegrets, name: str, largest: float) -> HeatCell:
    """One alternative of one sub-block."""
    regret = next((r for r in sub_block.regrets if r.alternative == name), None)
    at = "" if sub_block.sub_block in dict(ENDS) else f"layer {sub_block.layer} · "
    if regret is None:
        return HeatCell("absent", 0.0, "")
    if name == sub_block.chosen:
        return HeatCell("chosen", 0.0, f"{at}{name} is chosen")
    title = f"{at}{name} {told(regret)}"
    if regret.at_least is None:
        return HeatCell("cannot", 0.0, title)
    if regret.at_most is None:
        return HeatCell("unknown", 0.0, title)
    kind = "free" if is_negligible(why, regret) else "costs"
    return HeatCell(kind, _strength(regret.at_most, why.negligible, largest), title)


def regret_text(regret: Regret | Move, figure: Callable[[float], str] = "{:.3g}".format) -> str:
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
    return f"costs {regret.at_least:.3g} or more" if regret.at_most is None else _span(regret)


def _span(regret: Regret | Move) -> str:
    assert regret.at_least is not None and regret.at_most is not None
    if regret.at_least == regret.at_most:
        return _signed(regret.at_most)
    return f"{_signed(regret.at_least)} to {_signed(regret.at_most)}"


def _signed(value: float) -> str:
    sign = "−" if value < 0 else "+" if value > 0 else "±"
    return f"{sign}{abs(value):.3g}"


def _strength(value: float, negligible: float, largest: float) -> float:
    """The place of a regret between a negligible and the largest one, on a logarithmic scale."""
    if value <= negligible or value <= 0:
        return 0.0
    least = negligible if negligible > 0 else min(value, largest) / 1000
    if largest <= least:
        return 1.0
    share = math.log(value / least) / math.log(largest / least)
    return round(FAINTEST + (1 - FAINTEST) * min(max(share, 0.0), 1.0), 3)


# ---------------------------------------------------------------- requirements


def move_of(margin: Margin, *kinds: str) -> Number | str | None:
    """A move of the first kind that there is: `+0.021 by 1 %`; words where there is no number, None where there is no move."""
    move = next((move for kind in kinds for move in margin.moves if move.kind == kind), None)
    if move is None:
        return None
    if move.at_least is None:
        return CANNOT
    if move.at_most is None:
        return f"{_signed(move.at_least)} or more"
    note = {"up": f"up {move.by}", "down": f"down {move.by}", "without": ""}.get(move.kind, f"by {move.by}")
    return Number(_span(move), move.at_most, note)


# ---------------------------------------------------------------- their order


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
