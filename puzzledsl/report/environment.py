"""The templates of pages, and the rules they are filled by: everything is escaped, nothing may be missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from math import fsum
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment(*more: Path) -> Environment:
    """The environment that every template is loaded from. `more`: folders of templates that use these.

    Its filters are the forms of numbers, `{{ piece.tokens|count }}`; what is not known stays None.
    """
    made = Environment(
        loader=FileSystemLoader([*more, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    forms = (numbers.plain, numbers.count, numbers.size, numbers.seconds, numbers.rate, numbers.times)
    for form in (*forms, numbers.share, numbers.change, numbers.gap, numbers.of_unit):
        made.filters[form.__name__] = partial(_if_known, form)
    made.filters["mean"] = lambda values: fsum(found := [*values]) / len(found)
    return made


def _if_known(form: Callable[..., Number], value: float | None, *how: Any) -> Number | None:
    return None if value is None else form(value, *how)
