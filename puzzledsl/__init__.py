"""puzzledsl: search inference-optimised LLMs, declared in one file.

    import puzzledsl as pzl
    program = pzl.load("wide.pzl")
    answer = program.solve("best")

Names are imported when they are used, so that `import puzzledsl` costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

from puzzledsl.base.version import __version__ as __version__

if TYPE_CHECKING:
    from puzzledsl.api.program import Program as Program
    from puzzledsl.api.program import load as load
    from puzzledsl.api.program import parse as parse
    from puzzledsl.api.session import Run as Run
    from puzzledsl.api.session import Variations as Variations
    from puzzledsl.base.diagnostics import Diagnostic as Diagnostic
    from puzzledsl.base.diagnostics import DiagnosticError as DiagnosticError

_HOMES = {
    "load": "api.program",
    "parse": "api.program",
    "Program": "api.program",
    "Variations": "api.session",
    "Run": "api.session",
    "Diagnostic": "base.diagnostics",
    "DiagnosticError": "base.diagnostics",
}
"""Public name -> the module that has it."""
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"puzzledsl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
