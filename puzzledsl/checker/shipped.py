"""Profiles and parents shipped with the package, for commands that take their names instead of a program."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.resources import resource
from puzzledsl.checker.check import check, inspect
from puzzledsl.checker.names.words import shipped_names
from puzzledsl.ir.nodes import RooflineHardware, Shape

HARDWARE, PARENTS = "std/hardware.pzl", "std/parents.pzl"


def profiles_of(path: Path) -> dict[str, RooflineHardware]:
    """The roofline profiles that a file declares, by name. Raises DiagnosticError where it has mistakes."""
    checked = check(path, {})
    if checked.program is None:
        raise DiagnosticError(*checked.diagnostics)
    specs = {name: hardware.spec for name, hardware in checked.program.hardware.items()}
    return {name: spec for name, spec in specs.items() if isinstance(spec, RooflineHardware)}


def shipped_profiles() -> dict[str, RooflineHardware]:
    """The profiles of std/hardware.pzl, by name."""
    return profiles_of(resource("spaces", HARDWARE))


def shipped_shapes() -> dict[str, Shape]:
    """The parents of std/parents.pzl, by name."""
    names = [name for name, file in shipped_names().items() if file == PARENTS]
    text = f'use "{PARENTS}" ({", ".join(names)})\n' + "".join(f"parent p_{n} = {n}\n" for n in names)
    path = Path("shipped-parents.pzl").resolve()  # never written
    checked, _ = inspect(path, {}, {str(path): text})
    assert checked.program is not None, checked.diagnostics
    return {name: checked.program.parents[f"p_{name}"].shape for name in names}
