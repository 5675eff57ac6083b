"""The alternatives of sites as calls, and their initialisers: made from the files of `alternatives/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from puzzledsl.alternatives.alternative import Alternative, Site
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


ALTERNATIVES: Mapping[Site, Mapping[str, Call]] = {
    site: {word: _call(kind) for word, kind in kinds.items()} for site, kinds in KINDS.items()
}
"""Site -> word -> the call that makes its alternatives."""
ATTENTION, FFN = ALTERNATIVES["attention"], ALTERNATIVES["ffn"]
_DOCS: Mapping[Site, str] = {
    "attention": "The alternatives of an attention.",
    "ffn": "The alternatives of an FFN.",
    "embedding": "The types that the embedding may be stored in.",
    "head": "The types that the output head may be stored in.",
}
SITES: Mapping[Site, DecisionSite] = {
    name: DecisionSite(_DOCS[name], calls) for name, calls in ALTERNATIVES.items()
}
"""Sites by their names: settings of a space and what expressions read of a child. Those of a layer are SUB_BLOCKS."""

INITIALISERS: dict[str, tuple[str, ...]] = {
    name: get_args(type_of(Initialisers, name)) for name in Initialisers.model_fields
}
"""Alternative -> the ways to make its weights, the default first."""


_ANY = {word: call for calls in reversed([*ALTERNATIVES.values()]) for word, call in calls.items()}
_CHOICES: Mapping[str, Setting] = {name: site.setting() for name, site in SITES.items()}
_EITHER = Setting("", words=tuple(_ANY), calls=_ANY)


def alternatives_of(sub_block: str) -> Setting:
    """Return what a choice of a sub-block takes; of all where the name is none's."""
    return _CHOICES.get(sub_block, _EITHER)


def pattern_fields(name: str) -> tuple[str, ...]:
    """Return the arguments of an alternative that a pattern can test."""
    call = _ANY[name]
    return tuple(name for name, setting in call.arguments.items() if setting.in_patterns)
