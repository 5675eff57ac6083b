"""Things that the package ships: the diagnostics of all stages, parents and hardware, without loading the stages' libraries.

A diagnostic stands in the module that reports it, or, if that loads a heavy library, in an `errors` module beside it.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

import puzzledsl
from puzzledsl.base.diagnostics import Diagnostic

_DEFINITION = re.compile(r'^class \w+\(\w+, code="', re.MULTILINE)


@cache
def all_codes() -> dict[str, type[Diagnostic]]:
    """Code -> class, in the order of the codes."""
    root = Path(puzzledsl.__file__).parent
    for path in sorted(root.glob("**/*.py")):
        if _DEFINITION.search(path.read_text("utf-8")):
            importlib.import_module(".".join(("puzzledsl", *path.relative_to(root).with_suffix("").parts)))
    ours = {c: kind for c, kind in Diagnostic.registry.items() if kind.__module__.startswith("puzzledsl.")}
    return dict(sorted(ours.items(), key=lambda item: (item[0][1:], item[0])))


MEASURED = "measured"
"""The hardware of a program that times blocks on this machine."""
_STD_PARENT = re.compile(r"^# ([\w-]+/[\w.-]+)\n(?:#.*\n)*let (\w+) = ", re.MULTILINE)


def std_parents() -> dict[str, str]:
    """Return the shapes of std/parents.pzl: name -> hub id."""
    from puzzledsl.base.resources import resource

    text = resource("spaces", "std/parents.pzl").read_text("utf-8")
    return {name: id for id, name in _STD_PARENT.findall(text)}

