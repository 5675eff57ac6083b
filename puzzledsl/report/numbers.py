"""Numbers as the page shows them: the text a person reads beside the exact value it stands for. Proofs and regrets in words.

The page writes both, `<data value="0.0431">0.0431</data>`: whoever copies a figure has all of its digits. These forms of numbers
are the filters of the pages' templates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache, partial
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puzzledsl.base import units
from puzzledsl.base.units import BYTES, REQ_PER_S, TIME, TOK_PER_S
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.tables import Move, Regret, SubBlockRegrets, WhyResult

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, slots=True)
class Number:
    """Number for the page: `text` to read, `value` as in the artefact, `note` in small print (standard error, unit)."""

    text: str
    value: float
    note: str = ""


def plain(value: float, digits: int = 4) -> Number:
    """A bare number: scores, KL, perplexity."""
    return Number(f"{value:.{digits}g}", value)


def count(value: float) -> Number:
    """Parameters, jobs, heads: `51.5B`, `12`."""
    return Number(units.format_quantity(Fraction(value), units.COUNT), value)


def size(value: float) -> Number:
    """A size in bytes: `11.9GiB`."""
    return Number(units.format_quantity(Fraction(value), units.BYTES), value)


@lru_cache(maxsize=65_536)  # a strip of 80 layers has 400, mostly those of the strip before
def seconds(value: float) -> Number:
    """A time in seconds, in the unit that suits it: `12.5ms`."""
    return Number(units.format_quantity(Fraction(value), units.TIME), value)


def rate(value: float) -> Number:
    """Tokens a second; the unit is in the row's label."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return Number(text, value)


def times(value: float) -> Number:
    """A factor: `2.17×`."""
    digits = 2 if abs(value) < 10 else 1
    return Number(f"{value:,.{digits}f}×", value)


def share(value: float) -> Number:
    """A ratio as a percentage: 0.9634 -> `96.3 %`."""
    return Number(f"{value * 100:.1f} %", value)


def change(value: float) -> Number:
    """A signed relative change: -0.27 -> `−27.0 %`; `±0.0 %` for one that rounds to nothing."""
    shown = round(value * 100, 1)
    sign = "−" if shown < 0 else "+" if shown > 0 else "±"
    return Number(f"{sign}{abs(shown):.1f} %", value)


def gap(value: float) -> Number:
    """The gap of a proof as a percentage: 0.0012 -> `0.12 %`."""
    return Number(f"{value * 100:.3g} %", value)


def of_unit(value: float, unit: str) -> Number:
    """A number in an IR unit: "bytes", "seconds", "tokens_per_s", "requests_per_s" or "" for a plain one."""
    match unit:
        case "bytes":
            return size(value)
        case "seconds":
            return seconds(value)
        case "tokens_per_s":
            return Number(f"{rate(value).text} tok/s", value)
        case "requests_per_s":
            return Number(f"{rate(value).text} req/s", value)
        case _:
            return count(value) if float(value).is_integer() or abs(value) >= 10**5 else plain(value)


_UNITS = {BYTES: "bytes", TIME: "seconds", TOK_PER_S: "tokens_per_s", REQ_PER_S: "requests_per_s"}
METRIC_UNITS = {name: _UNITS.get(metric.dimension, "") for name, metric in METRICS.items()}
"""The IR unit of each metric of a scenario."""


@cache
def environment(*more: Path) -> Environment:
    """Return the environment of all templates: values are escaped, and a missing one is an error. `more`: other template folders.

    Its filters are the number functions above, `{{ piece.tokens|count }}`; an unknown value, None, stays None.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([*more, Path(__file__).parent / "templates"])
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for form in (plain, count, size, seconds, rate, times, share, change, gap, of_unit):
        made.filters[form.__name__] = partial(_if_known, form)
    made.filters["mean"] = lambda values: fsum(found := [*values]) / len(found)
    return made


def _if_known(form: Callable[..., Number], value: float | None, *how: Any) -> Number | None:
    return None if value is None else form(value, *how)


STATUS = {
    "optimal": "Proven: no child of the space does better by more than the gap",
    "feasible": "The best found in the time given; the bound says how much better another could be",
    "infeasible": "Proven: no child of the space meets every requirement",
    "unknown": "No child was found in the time given, and none was excluded",
}
CANNOT = "cannot be met"


def regret_text(regret: Regret | Move, figure: Callable[[float], str]) -> str:
    """A regret as text, with numbers by `figure`: `0.021`, `0.012 to 0.020`, `at least 0.012`, `not known`, `cannot be met`."""
    if regret.at_least is None:
        return CANNOT
    if regret.at_most is None:
        return "not known" if regret.at_least <= 0 else f"at least {figure(regret.at_least)}"
    if regret.at_most == regret.at_least:
        return figure(regret.at_most)
    return f"{figure(regret.at_least)} to {figure(regret.at_most)}"


def signed(value: float) -> str:
    """A difference: `+0.021`, `±0`."""
    sign = "−" if value < 0 else "+" if value > 0 else "±"
    return f"{sign}{abs(value):.3g}"


def by_regret(sub_block: SubBlockRegrets) -> list[Regret]:
    """The regrets of a sub-block: of the chosen alternative, then by upper bound, then those without one by lower bound."""

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
    """Return True if a regret is proven to be at most the one that counts as negligible."""
    return regret.at_most is not None and regret.at_most <= result.negligible
