"""Shell completion of codes, parents and hardware profiles, from the names in the shipped files."""

from __future__ import annotations

import re

MEASURED = "measured"
"""The hardware of a program that times blocks on this machine."""
_STD_PARENT = re.compile(r"^# ([\w-]+/[\w.-]+)\n(?:#.*\n)*let (\w+) = ", re.MULTILINE)


def std_parents() -> dict[str, str]:
    """Return the shapes of std/parents.pzl: name -> hub id."""
    from puzzledsl.base.resources import resource

    text = resource("spaces", "std/parents.pzl").read_text("utf-8")
    return {name: id for id, name in _STD_PARENT.findall(text)}


def std_hardware() -> list[str]:
    """Return the names of the profiles in std/hardware.pzl."""
    from puzzledsl.base.resources import resource

    text = resource("spaces", "std/hardware.pzl").read_text("utf-8")
    return re.findall(r"^hardware (\w+)", text, re.MULTILINE)


def complete_code(incomplete: str) -> list[tuple[str, str]]:
    """Return the codes that start with `incomplete`, each with its summary."""
    from puzzledsl.cli.codes import all_codes

    return [
        (code, (kind.__doc__ or "").split("\n", 1)[0])
        for code, kind in all_codes().items()
        if code.startswith(incomplete.upper())
    ]


def complete_parent(incomplete: str) -> list[tuple[str, str]]:
    """Return the shapes of std/parents.pzl that start with `incomplete`, each with its hub id."""
    return [(name, id) for name, id in std_parents().items() if name.startswith(incomplete)]


def complete_hardware(incomplete: str) -> list[str]:
    """Return `measured` and the profiles of std/hardware.pzl that start with `incomplete`."""
    return [name for name in (MEASURED, *std_hardware()) if name.startswith(incomplete)]
