"""The alternatives of a sub-block as calls, and their initialisers: made from the files of `alternatives/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.precision import FULL, PRECISIONS
from puzzledsl.alternatives.registry import KINDS
from puzzledsl.alternatives.shape import Initialisers
from puzzledsl.base.frozen import record, type_of
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


@record
class DecisionSite:
    """A place where a search chooses one of several alternatives. `doc` explains its setting in a space."""

    doc: str
    alternatives: Mapping[str, Call]

    def setting(self) -> Setting:
        """Return the setting of a space that lists the site's alternatives."""
        return Setting(self.doc, words=tuple(self.alternatives), calls=self.alternatives)


ATTENTION, FFN = ({word: _call(kind) for word, kind in kinds.items()} for kinds in KINDS.values())
SITES: Mapping[SubBlock, DecisionSite] = {
    "attention": DecisionSite("The alternatives of an attention.", ATTENTION),
    "ffn": DecisionSite("The alternatives of an FFN.", FFN),
}
"""Sites of a layer by their names: settings of a space, parts of an override, and what expressions read of a layer."""
ALTERNATIVES = {name: site.alternatives for name, site in SITES.items()}

INITIALISERS: dict[str, tuple[str, ...]] = {
    name: get_args(type_of(Initialisers, name)) for name in Initialisers.model_fields
}
"""Alternative -> the ways to make its weights, the default first."""


_BOTH = {**FFN, **ATTENTION}
_CHOICES: Mapping[str, Setting] = {name: site.setting() for name, site in SITES.items()}
_EITHER = Setting("", words=tuple(_BOTH), calls=_BOTH)


def alternatives_of(sub_block: str) -> Setting:
    """Return what a choice of a sub-block takes; of both where the name is neither's."""
    return _CHOICES.get(sub_block, _EITHER)


def pattern_fields(name: str) -> tuple[str, ...]:
    """Return the arguments of an alternative that a pattern can test."""
    call = FFN.get(name) or ATTENTION[name]
    return tuple(name for name, setting in call.arguments.items() if setting.in_patterns)
