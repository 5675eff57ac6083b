"""Diagnostics of initialisation."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoCalibration(Diagnostic, code="E0722", template="there are no calibration tokens"):
    """The calibration data contains no tokens."""

    help_template = "initialisers read activations; give the data more text or a shorter context"
