"""The templates of the page and of notebooks, and the rules they are filled by: everything is escaped, nothing may be missing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment(*more: Path) -> Environment:
    """The environment that every template is loaded from. `more`: folders of templates that use these."""
    return Environment(
        loader=FileSystemLoader([*more, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
