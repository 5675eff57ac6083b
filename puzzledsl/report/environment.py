"""The templates of the page and of notebooks, and the rules they are filled by: everything is escaped, nothing may be missing.

HTML for notebooks: a heading, the strip of a child, a heat map of regrets, a picture, tables, and their own styles.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import fsum
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.pictures.architecture import Strip
from puzzledsl.report.sections.searches import Regrets

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


MOST_ROWS = 60


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; numbers to the right of the first `words` columns. `left_out`: rows that are not shown."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int
    left_out: int

    @classmethod
    def of(cls, columns: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> Table:
        """The first MOST_ROWS rows."""
        return cls(columns, rows[:MOST_ROWS], words, max(0, len(rows) - MOST_ROWS))


def fragment(
    title: str,
    lines: Sequence[str] = (),
    tables: Sequence[Table] = (),
    *,
    strip: Strip | None = None,
    regrets: Regrets | None = None,
    svg: str = "",
    svg_text: str = "",
) -> str:
    """A `<div>` with its own styles. `svg` is shown as an image, which `svg_text` describes."""
    return (
        environment()
        .get_template("notebook.html.j2")
        .render(
            title=title,
            lines=lines,
            tables=tables,
            strip=strip,
            regrets=regrets,
            picture=b64encode(svg.encode()).decode(),
            picture_text=svg_text,
        )
    )
