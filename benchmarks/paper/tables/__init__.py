"""A module a table or figure of the paper: its figures there, and what is made and compared here."""

from __future__ import annotations

import importlib
import pkgutil
import re

from benchmarks.paper.result import Table


def tables() -> dict[str, Table]:
    """Every table of this folder by name, in the paper's order: tables by number, then figures."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    found = [importlib.import_module(f"{__name__}.{name}").TABLE for name in names]
    return {table.name: table for table in sorted(found, key=lambda t: _place(t.name))}


def _place(name: str) -> tuple[bool, int]:
    match = re.fullmatch(r"(table|figure)(\d+)", name)
    assert match is not None, f"{name} is no name of a table"
    return match[1] == "figure", int(match[2])
