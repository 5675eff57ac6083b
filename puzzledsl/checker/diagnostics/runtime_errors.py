"""Diagnostics of exports that the chosen runtime cannot run: E047x."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoSuchFamily(Diagnostic, code="E0471"):
    """The runtime cannot run children of parents of this architecture."""

    template = "{runtime} cannot run children of {family} parents: {reason}"


class CannotRepresent(Diagnostic, code="E0472"):
    """An alternative that the runtime lacks and that nothing in the runtime can replace exactly."""

    template = "{runtime} has no {what}: {layers} ({reason})"


class IsLowered(Diagnostic, code="W0473"):
    """An alternative that the runtime lacks and that the export rewrites into something the runtime has."""

    template = "{runtime} has no {what}"


class LoweringRefused(Diagnostic, code="E0474"):
    """An alternative that the runtime lacks, in an export that forbids rewriting with `lower: false`."""

    template = "{runtime} has no {what}, and `lower: false` forbids rewriting it"
