"""Symbolic sums as linear expressions of the IR."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.checker.expressions.search_values import Symbolic, TermKey
from puzzledsl.ir import nodes

LAYER_TERMS = ("fact", "count", "table")
"""Kinds of terms that belong to one layer; the layer is the last part of their key."""


def to_linear(value: Symbolic) -> nodes.Linear:
    """A symbolic value as the IR's linear expression: layers of one fact or count with one coefficient are one term."""
    groups: dict[tuple[TermKey, Fraction], list[int]] = {}
    for key, coefficient in value.terms.items():
        if key[0] in LAYER_TERMS:
            groups.setdefault((key[:-1], coefficient), []).append(cast(int, key[-1]))
        else:
            groups[key, coefficient] = []
    terms = tuple(
        nodes.WeightedTerm(coefficient=coefficient, term=_term(key, tuple(sorted(layers))))
        for (key, coefficient), layers in groups.items()
    )
    return nodes.Linear(terms=terms, constant=value.constant)


def _term(key: TermKey, layers: tuple[int, ...]) -> nodes.Term:
    match key:
        case ("metric", str(scenario), str(metric)):
            return nodes.MetricTerm(scenario=scenario, metric=metric)
        case ("score", str(score)):
            return nodes.ScoreTerm(score=score)
        case ("params",):
            return nodes.ParamsTerm()
        case ("fact", str(sub_block), str(attribute)):
            return nodes.FactTerm(sub_block=cast(SubBlock, sub_block), attribute=attribute, layers=layers)
        case ("count", str(sub_block), tuple(names)):
            return nodes.CountTerm(sub_block=cast(SubBlock, sub_block), alternatives=names, layers=layers)
        case ("table", tuple(attention), tuple(ffn), tuple(cells)):
            return nodes.TableTerm(attention=attention, ffn=ffn, values=cells, layers=layers)
    raise AssertionError(f"no term: {key}")
