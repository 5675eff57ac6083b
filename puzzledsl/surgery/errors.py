"""What cannot be initialised."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class CannotInitialise(Diagnostic):
    """An alternative that no initialiser makes from this parent.

    Some alternatives can only be made from parents with certain layers.

    Wrong:
        space v of p { attention = linear }            # of a parent whose attention cannot be read
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0721"
    template = "`{alternative}` cannot be initialised from this parent: {reason}"


class NoCalibration(Diagnostic):
    """Calibration data gave no tokens.

    Initialisers fit new weights to the parent's activations on the data; with no tokens there is nothing to
    fit.

    Wrong:
        data d = text("empty.txt")
    Right:
        data d = text("corpus/*.txt")
    """

    code = "E0722"
    template = "there are no calibration tokens"
    help_template = "initialisers read activations; give the data more text or a shorter context"
