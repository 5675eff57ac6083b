"""What cannot be initialised."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class CannotInitialise(Diagnostic):
    """An alternative that no initialiser makes from this parent."""

    code = "E0721"
    template = "`{alternative}` cannot be initialised from this parent: {reason}"


class NoCalibration(Diagnostic):
    """Calibration data gave no tokens."""

    code = "E0722"
    template = "there are no calibration tokens"
    help_template = "initialisers read activations; give the data more text or a shorter context"
