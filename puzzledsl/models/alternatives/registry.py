"""The file of each alternative that has a module: beside this one, or a package's (entry points `puzzledsl.models.alternatives`).

An entry point is named after the alternative and refers to the module (file) with `build` and `initialise`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, cast

from torch import nn

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.stage_errors import CannotRealise
from puzzledsl.models.alternatives.realisation import Realisation
from puzzledsl.models.errors import BrokenModule

GROUP = "puzzledsl.models.alternatives"


def realisation_of(alternative: Alternative) -> Realisation:
    """Return the file of an alternative. Raises DiagnosticError: CannotRealise, BrokenModule."""
    found = _own(alternative.kind) or _installed(alternative.kind)
    if found is None:
        raise DiagnosticError(CannotRealise(None, alternative=alternative.name))
    return found


def module_class(alternative: Alternative) -> type[nn.Module] | None:
    """Return the class that a checkpoint must bring; None for an alternative that every checkpoint's code has."""
    return cast(type[nn.Module] | None, getattr(realisation_of(alternative), "MODULE", None))


@cache
def _own(kind: str) -> Realisation | None:
    """Return the file of this folder that makes an alternative; None if it has none."""
    name = f"{__package__}.{kind}"
    found = None if find_spec(name) is None else import_module(name)
    return cast(Realisation, found) if hasattr(found, "build") else None


@cache
def _installed(kind: str) -> Realisation | None:
    """Return the file of an installed package; None if no package has one. Raises DiagnosticError (BrokenModule)."""
    for entry in entry_points(group=GROUP, name=kind):
        try:
            found: Any = entry.load()
            missing = [name for name in ("build", "initialise", "MODULE") if not hasattr(found, name)]
            reason = f"`{entry.value}` has no {', '.join(missing)}" if missing else ""
        except Exception as error:  # whatever the package's code raises
            reason = f"{type(error).__name__}: {error}"
        if reason:
            raise DiagnosticError(BrokenModule(None, alternative=kind, reason=reason))
        return cast(Realisation, found)
    return None
