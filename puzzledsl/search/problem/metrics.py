"""Exact evaluation of a child: metrics, figures and requirements in fractions. The verifier has another."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

from puzzledsl.costs.metrics import metrics_of
from puzzledsl.ir import nodes
from puzzledsl.ir.layer_runs import counted_runs
from puzzledsl.ir.logic import compared, holds
from puzzledsl.ir.tables import Assignment
from puzzledsl.search.problem.normal_form import with_facts
from puzzledsl.search.tables import Tables, decimal

Layers = Sequence[Assignment]
PAIR = operator.attrgetter("attention", "ffn")


@dataclass(frozen=True, slots=True)
class Child:
    """A choice for every layer, and a batch for every scenario of the search."""

    tables: Tables
    layers: tuple[Assignment, ...]
    batches: Mapping[str, int]

    def parent(self) -> Child:
        """Return the parent at the same batches."""
        return Child(self.tables, self.tables.parent, self.batches)

    def linear(self, linear: nodes.Linear) -> Fraction:
        """Return the value of a linear expression, in base units."""
        return sum((w.coefficient * self.term(w.term) for w in linear.terms), linear.constant)

    def term(self, term: nodes.Term) -> Fraction:
        """Return the value of one term, in base units."""
        tables, layers = self.tables, self.layers
        match term:
            case nodes.MetricTerm(scenario=scenario, metric=metric):
                return metrics_of(tables.at(scenario, self.batches[scenario]), layers)[metric]
            case nodes.ScoreTerm(score=score):
                offset = decimal(tables.scores[score].offset)
                return offset + self._summed(score)
            case nodes.ParamsTerm():
                return Fraction(
                    tables.costs.params_fixed + sum(tables.params(i, c) for i, c in enumerate(layers))
                )
            case nodes.FactTerm(sub_block=sub_block, attribute=attribute, layers=where):
                return Fraction(
                    sum(tables.fact(sub_block, attribute, i, getattr(layers[i], sub_block)) for i in where)
                )
            case nodes.CountTerm(sub_block=sub_block, alternatives=alternatives, layers=where):
                return Fraction(sum(getattr(layers[i], sub_block) in alternatives for i in where))
            case nodes.TableTerm(layers=where):
                return sum((term.value(*PAIR(layers[i])) for i in where), Fraction(0))
            case _:
                assert_never(term)

    def _summed(self, score: str) -> Fraction:
        """Return the sum of the layers' scores; runs of dropped layers count with their measured scores."""
        measured, runs = self.tables.runs.get(score, {}), []
        if measured:
            dropped = zip(self.layers, self.tables.dropped(), strict=True)
            runs = counted_runs([choice == gone for choice, gone in dropped], measured)
        inside = {layer for first, length in runs for layer in range(first, first + length)}
        alone = (self.tables.score(score, i, c) for i, c in enumerate(self.layers) if i not in inside)
        return sum(alone, sum((decimal(measured[run]) for run in runs), Fraction(0)))

    def bound_of(self, requirement: nodes.LinearRequirement) -> Fraction:
        """Return the right-hand side of a requirement: its bound, or its ratio times the parent's value at the same batch."""
        relative = requirement.parent_ratio is not None
        return requirement.limit * (self.parent().linear(requirement.left) if relative else 1)

    def meets(self, requirement: nodes.Requirement) -> bool:
        """True if a requirement holds."""
        match requirement:
            case nodes.LinearRequirement():
                value = self.linear(requirement.left)
                return bool(compared((value, value), requirement.op, self.bound_of(requirement)))
            case nodes.LogicRequirement(formula=formula):
                return bool(holds(with_facts(self.tables, formula), dict(enumerate(self.layers))))
            case _:
                assert_never(requirement)

    def is_right(self) -> bool:
        """True if every batch fits and every requirement of the search holds."""
        tables = self.tables
        return all(map(self.fits, tables.scenarios)) and all(map(self.meets, tables.search.requirements))

    def fits(self, scenario: str) -> bool:
        """True if an `auto` batch is the largest candidate that fits into memory; always true if the batch is given."""
        batch = self.batches[scenario]
        if self.tables.at(scenario, batch).capacity_bytes is None:
            return True
        return batch == self.tables.largest_batch(scenario, self.layers)


def report(child: Child) -> tuple[dict[str, int], dict[str, Fraction]]:
    """Return every scenario's batch (the child's, else the largest that fits) and all other metrics in base units."""
    tables = child.tables
    batches, metrics = dict(child.batches), {"params": child.term(nodes.ParamsTerm())}
    for name, candidates in sorted(tables.costs.scenarios.items()):
        if not candidates:
            continue
        if name not in batches:
            batches[name] = tables.largest_batch(name, child.layers) or candidates[0].batch
        costs = tables.at(name, batches[name])
        for metric, value in metrics_of(costs, child.layers).items():
            if metric not in costs.unknown and metric != "batch":
                metrics[f"{name}.{metric}"] = value
    for name in sorted(tables.scores):
        metrics[name] = child.term(nodes.ScoreTerm(score=name))
    return batches, metrics
