"""Diagnostics of a `measured(...)` hardware that does not match this machine."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoSuchDevice(Diagnostic, code="E1801"):
    """A device that torch does not know or this machine does not have."""

    template = "hardware `{name}` is measured on `{device}`, which this machine does not have"
    help_template = (
        'devices here: {devices}; for another machine\'s figures use a profile or `table("costs.csv")`'
    )


class NoSuchDtype(Diagnostic, code="E1802", template="hardware `{name}` cannot be measured in `{dtype}`"):
    """A data type that Transformers' modules cannot compute in."""

    help_template = "types that can be measured: {dtypes}"
