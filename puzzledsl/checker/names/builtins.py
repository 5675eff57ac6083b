"""Values of names that the language itself defines. A file's own declarations take precedence."""

from __future__ import annotations

from puzzledsl.checker.expressions.values import Boolean, BuiltIn, Text, Value
from puzzledsl.language.words import DTYPES, FUNCTIONS

VALUES: dict[str, Value] = {
    "true": Boolean(True),
    "false": Boolean(False),
    **{name: BuiltIn(name) for name in FUNCTIONS},
    **{name: Text(name) for name in DTYPES},
}
