"""Diagnostics of alternatives: sizes that the parent does not allow, and packages that do not load."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class KvHeadsDontDivide(Diagnostic, code="E0207"):
    """A number of key/value heads that does not divide the parent's heads."""

    template = "kv_heads={got} does not divide the parent's {heads} {what} heads"


class HeadsDontDivide(Diagnostic, code="E0224"):
    """A number of query heads that is no multiple of the key/value heads."""

    template = "heads={heads} is no multiple of kv_heads={kv_heads}"


class SinksDontFit(Diagnostic, code="E0223"):
    """`sinks` that do not fit into a window."""

    template = "no room for {sinks} first tokens: this attention {reason}"


class ImpossibleExperts(Diagnostic, code="E0411", template="top_k={top_k} of experts={experts}"):
    """More active experts than experts."""

    help_template = "top_k goes from 1 to experts"


class PrecisionDoesNotFit(Diagnostic, code="E0225"):
    """A storage type that a layer's matrices, or its keys and values, do not fit."""

    template = "`{name}` cannot be stored as `{dtype}` ({layers}): {why}"
    help_template = "`int8` and `fp8` have a scale for each row, of any length"


class BrokenPackage(Diagnostic, code="W0204"):
    """An installed package whose alternative does not load."""

    template = "the package `{package}` adds no alternative `{name}`: {reason}"
    help_template = "upgrade or uninstall `{package}`"
