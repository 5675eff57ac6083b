"""Diagnostics of initialisation."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class CannotInitialise(Diagnostic):
    """An alternative that no initialiser can make from this parent.

    Some alternatives need a parent with certain layers.

    Wrong:
        space v of p { attention = linear }            # of a parent whose attention cannot be read
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0721"
    template = "`{alternative}` cannot be initialised from this parent: {reason}"


class NoCalibration(Diagnostic):
    """The calibration data contains no tokens.

    Initialisers fit new weights to the parent's activations on the data.

    Wrong:
        data d = text("empty.txt")
    Right:
        data d = text("corpus/*.txt")
    """

    code = "E0722"
    template = "there are no calibration tokens"
    help_template = "initialisers read activations; give the data more text or a shorter context"
