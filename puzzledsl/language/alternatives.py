"""The alternatives of a sub-block as calls, and their initialisers: made from the files of `alternatives/`."""

from __future__ import annotations

from typing import get_args

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.precision import FULL, PRECISIONS
from puzzledsl.alternatives.registry import KINDS
from puzzledsl.alternatives.shape import Initialisers
from puzzledsl.base.settings import Call, Setting

PRECISION = "dtype"
"""Argument of every alternative with matrices: the types that they are stored in."""


def _call(kind: type[Alternative]) -> Call:
    tested = kind.fields()
    arguments = {
        key: Setting(each.doc, words=each.words, default=each.default, in_patterns=key in tested)
        for key, each in kind.arguments.items()
    }
    if kind.quantisable:
        arguments[PRECISION] = Setting(
            "Storage type of the weights: `full | q8_0 | q4_0` is one alternative each.",
            words=(FULL, *PRECISIONS),
            default="`full`",
            noun="storage type",
        )
    return Call(kind.summary, arguments, positional=kind.positional)


ATTENTION, FFN = ({word: _call(kind) for word, kind in kinds.items()} for kinds in KINDS.values())
ALTERNATIVES = {"attention": ATTENTION, "ffn": FFN}
"""Sub-block -> its alternatives."""

INITIALISERS: dict[str, tuple[str, ...]] = {
    name: get_args(field.annotation) for name, field in Initialisers.model_fields.items()
}
"""Alternative -> the ways to make its weights, the default first."""


_BOTH = {**FFN, **ATTENTION}
_CHOICES = {name: Setting("", words=tuple(known), calls=known) for name, known in ALTERNATIVES.items()}
_EITHER = Setting("", words=tuple(_BOTH), calls=_BOTH)


def alternatives_of(sub_block: str) -> Setting:
    """Return what a choice of a sub-block takes; of both where the name is neither's."""
    return _CHOICES.get(sub_block, _EITHER)


def pattern_fields(name: str) -> tuple[str, ...]:
    """Return the arguments of an alternative that a pattern can test."""
    call = FFN.get(name) or ATTENTION[name]
    return tuple(name for name, setting in call.arguments.items() if setting.in_patterns)
