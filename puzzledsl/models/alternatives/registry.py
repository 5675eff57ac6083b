"""The file of each alternative that has a module, and those of installed packages (entry points `puzzledsl.models.alternatives`).

An entry point is named after the alternative and refers to the module (file) with `build` and `initialise`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, cast

from torch import nn

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.stage_errors import CannotRealise
from puzzledsl.models.alternatives import gqa, linear, mlp, moe, noop, parent
from puzzledsl.models.alternatives.realisation import Realisation
from puzzledsl.models.errors import BrokenModule

GROUP = "puzzledsl.models.alternatives"
BUILT_IN: dict[str, Realisation] = {
    "parent": parent,
    "gqa": gqa,
    "mlp": mlp,
    "moe": moe,
    "linear": linear,
    "noop": noop,
}


def realisation_of(alternative: Alternative) -> Realisation:
    """Return the file of an alternative. Raises DiagnosticError: CannotRealise, BrokenModule."""
    found = BUILT_IN.get(alternative.kind) or _installed(alternative.kind)
    if found is None:
        raise DiagnosticError(CannotRealise(None, alternative=alternative.name))
    return found


def module_class(alternative: Alternative) -> type[nn.Module] | None:
    """Return the class that a package builds; None for an alternative of this package, which every checkpoint's code has."""
    if alternative.kind in BUILT_IN:
        return None
    return cast(type[nn.Module], cast(Any, realisation_of(alternative)).MODULE)


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
