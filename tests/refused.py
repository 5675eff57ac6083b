"""A user's mistake that a call reports."""

from collections.abc import Callable

import pytest

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError


def refused(run: Callable[..., object], *given: object, **named: object) -> Diagnostic:
    """The first diagnostic that a call raises."""
    with pytest.raises(DiagnosticError) as caught:
        run(*given, **named)
    return caught.value.diagnostics[0]
