"""What cannot be measured."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoWorkload(Diagnostic):
    """Not even one sequence fits."""

    code = "E1811"
    template = "scenario `{scenario}` does not fit on hardware `{hardware}`, not even one sequence of it"
    help_template = "give the hardware more memory, or shorten the prompt"
