"""Diagnostics of initialisation."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


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
