"""puzzledsl: search inference-optimised LLMs, declared in one file.

    import puzzledsl as pzl
    program = pzl.load("wide.pzl")
    answer = program.solve("best")

Names are imported when they are used, so that `import puzzledsl` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from puzzledsl.base.version import __version__

if TYPE_CHECKING:
    from puzzledsl.api.answer import Answer
    from puzzledsl.api.child import Child
    from puzzledsl.api.frontier import Frontier, Plot
    from puzzledsl.api.loading import load, parse
    from puzzledsl.api.magic import load_ipython_extension
    from puzzledsl.api.program import Program
    from puzzledsl.api.regrets import Regrets
    from puzzledsl.api.run import Run
    from puzzledsl.api.tables import Costs, Space
    from puzzledsl.api.variations import Variations
    from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError

__all__ = [
    "load",
    "parse",
    "Program",
    "Answer",
    "Child",
    "Space",
    "Costs",
    "Frontier",
    "Plot",
    "Regrets",
    "Variations",
    "Run",
    "Diagnostic",
    "DiagnosticError",
    "load_ipython_extension",
    "__version__",
]

_HOMES = {
    "load": "api.loading",
    "parse": "api.loading",
    "Program": "api.program",
    "Answer": "api.answer",
    "Child": "api.child",
    "Space": "api.tables",
    "Costs": "api.tables",
    "Frontier": "api.frontier",
    "Plot": "api.frontier",
    "Regrets": "api.regrets",
    "Variations": "api.variations",
    "Run": "api.run",
    "Diagnostic": "base.diagnostics",
    "DiagnosticError": "base.diagnostics",
    "load_ipython_extension": "api.magic",
}
"""Public name -> the module that has it."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"puzzledsl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
