"""Names that the standard library declares and a program forgot to `use`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from puzzledsl.base.diagnostics import Edit, Fix, Span
from puzzledsl.base.resources import listing, resource
from puzzledsl.checker.expressions.values import SourceFile
from puzzledsl.syntax import tree

_DECLARED = re.compile(r"^(?:let|fn|param|hardware|parent|space)\s+([a-z]\w*)", re.MULTILINE)


@cache
def shipped_names() -> dict[str, str]:
    """Every name that a file of the standard library declares, with that file: `h100_sxm` -> `std/hardware.pzl`."""
    names: dict[str, str] = {}
    for file in listing("spaces", "std/*.pzl"):
        for name in _DECLARED.findall(resource("spaces", file).read_text("utf-8")):
            names.setdefault(name, file)
    return names


def use_of(names: Iterable[str]) -> str:
    """The `use` lines that bring shipped names in, a line a file."""
    by_file: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        by_file.setdefault(shipped_names()[name], []).append(name)
    return "\n".join(f'use "{file}" ({", ".join(listed)})' for file, listed in sorted(by_file.items()))


def insert_use(file: SourceFile, names: Iterable[str]) -> Fix:
    """The fix that writes those lines before the first declaration of a file, its doc comment included."""
    line = file.module.items[0].span.line if file.module.items else 1
    if file.module.items and not isinstance(file.module.items[0], tree.Use):
        while line > 1 and file.lines[line - 2].startswith("##"):
            line -= 1
    text = use_of(names)
    place = Span(file.file, line, 1, line, 1)
    return Fix("write `" + text.replace("\n", "`, `") + "`", (Edit(place, text + "\n"),))
