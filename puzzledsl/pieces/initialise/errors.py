"""Diagnostics of initialisation."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoCalibration(Diagnostic, code="E0722"):
    """The calibration data contains no tokens."""

    template = "there are no calibration tokens"
    help_template = "initialisers read activations; give the data more text or a shorter context"
