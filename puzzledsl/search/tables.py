"""The inputs of one search (program, costs, scores), checked for completeness, and lookups in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import DiagnosticError, Sink
from puzzledsl.base.stage_errors import NothingMeasured
from puzzledsl.base.units import BYTES
from puzzledsl.costs.any_batch import AnyBatch, any_batch
from puzzledsl.costs.csv_table import DIMENSIONS
from puzzledsl.ir.facts import fact
from puzzledsl.ir.layer_runs import Run, dropped_names
from puzzledsl.ir.metrics import fits
from puzzledsl.ir.nodes import Baseline, LayerChoice, MetricTerm, Program, Search, Shape
from puzzledsl.ir.references import drops_by_influence, influence_score
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScenarioCosts, ScoreTable
from puzzledsl.search.errors import (
    AlternativeNotCosted,
    AlternativeNotScored,
    CostsNotThere,
    MetricUnknown,
    NoInfluence,
    ScoresNotThere,
    Unbounded,
)
from puzzledsl.search.needs import influence_of, needed, placed_linears

PARENT = LayerAssignment(attention="parent", ffn="parent")


@dataclass(frozen=True, slots=True)
class Tables:
    """The inputs of one search. `scenarios`: those it mentions, in alphabetical order."""

    program: Program
    search: Search
    costs: CostTable
    scores: Mapping[str, ScoreTable]
    scenarios: tuple[str, ...]
    profiles: Mapping[str, AnyBatch] = field(default_factory=dict)  # scenarios that may run at any batch
    runs: Mapping[str, Mapping[Run, float]] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """The alternatives of each layer."""
        return self.program.spaces[self.search.space].layers

    @property
    def shape(self) -> Shape:
        """Shape of the parent."""
        return self.program.parents[self.program.spaces[self.search.space].parent].shape

    def dropped(self) -> list[LayerAssignment | None]:
        """Return the choice that drops each layer; None for one that has no sub-blocks."""
        return [
            None if names is None else LayerAssignment(attention=names[0], ffn=names[1])
            for names in dropped_names(self.shape)
        ]

    def at(self, scenario: str, batch: int) -> ScenarioCosts:
        """Return a scenario's costs at a batch. Raises KeyError for a batch that is no candidate."""
        if batch not in self.candidates(scenario):
            raise KeyError((scenario, batch))
        if scenario in self.profiles:
            return self.profiles[scenario].at(batch)
        return next(costs for costs in self.costs.scenarios[scenario] if costs.batch == batch)

    def candidates(self, scenario: str) -> Sequence[int]:
        """Return the batches that a scenario may run at, ascending: a whole range with `auto` on a profile, else the table's."""
        if scenario in self.profiles:
            return range(1, self.costs.auto[scenario] + 1)
        return [costs.batch for costs in self.costs.scenarios[scenario]]

    def larger(self, scenario: str, batch: int) -> Sequence[int]:
        """Return candidates above `batch` such that no larger batch fits if none of these does.

        On a profile this is the next batch, since memory grows with the batch; else all larger ones of the table.
        """
        if scenario in self.profiles:
            return [batch + 1] if batch < self.costs.auto[scenario] else []
        return [b for b in self.candidates(scenario) if b > batch]

    def largest_batch(self, scenario: str, layers: Sequence[LayerAssignment]) -> int:
        """Return the largest candidate of an `auto` batch at which a model fits into memory; 0 if it fits at none."""
        if scenario in self.profiles:
            return self.profiles[scenario].largest(layers)
        return max((c.batch for c in self.costs.scenarios[scenario] if fits(c, layers)), default=0)

    def batch_choices(self) -> Iterator[dict[str, int]]:
        """Yield every combination of candidate batches of the search's scenarios, smallest first."""
        for batches in product(*map(self.candidates, self.scenarios)):
            yield dict(zip(self.scenarios, batches, strict=True))

    def score(self, name: str, layer: int, choice: LayerAssignment) -> Fraction:
        """Return a layer's score, without runs: the exact decimal in its table; 0 for the parent.

        Raises DiagnosticError (AlternativeNotScored).
        """
        if self.scores[name].unit == "block":
            return decimal(self.pair_score(name, layer, choice.attention, choice.ffn))
        attention = decimal(self.sub_block_score(name, layer, "attention", choice.attention))
        return attention + decimal(self.sub_block_score(name, layer, "ffn", choice.ffn))

    def pair_score(self, name: str, layer: int, attention: str, ffn: str) -> float:
        """Return a layer's score from a table of pairs. Raises DiagnosticError (AlternativeNotScored)."""
        return self._one_score(name, self.scores[name].pairs, layer, f"{attention}/{ffn}")

    def pair_scores(self, name: str, layer: int, keys: Sequence[str]) -> list[float]:
        """Return the scores of many pairs of a layer, named `attention/ffn`. Raises DiagnosticError (AlternativeNotScored)."""
        pairs = self.scores[name].pairs
        here = pairs[layer] if layer < len(pairs) else {}
        found = zip(keys, map(here.get, keys), strict=True)
        return [self._one_score(name, pairs, layer, key) if value is None else value for key, value in found]

    def sub_block_score(self, name: str, layer: int, sub_block: SubBlock, key: str) -> float:
        """Return a sub-block's score from a table of sub-blocks. Raises DiagnosticError (AlternativeNotScored)."""
        table = self.scores[name]
        return self._one_score(
            name, table.attention if sub_block == "attention" else table.ffn, layer, key, sub_block
        )

    def _one_score(
        self, name: str, tables: tuple[dict[str, float], ...], layer: int, key: str, part: str = ""
    ) -> float:
        value = tables[layer].get(key) if layer < len(tables) else None
        if value is not None:
            return value
        if key in ("parent", "parent/parent"):
            return 0.0
        raise DiagnosticError(
            AlternativeNotScored(
                span_of(self.search.where),
                name=name,
                alternative=f"{part} {key}".strip(),
                layer=layer,
                file=self.program.source,
            )
        )

    def params(self, layer: int, choice: LayerAssignment) -> int:
        """Return the number of parameters of a layer's two sub-blocks."""
        return self.costs.params_attention[layer][choice.attention] + self.costs.params_ffn[layer][choice.ffn]

    def fact(self, sub_block: SubBlock, attribute: str, layer: int, name: str) -> int:
        """Return an attribute of an alternative, such as its width or number of parameters (see FactTerm)."""
        if attribute == "params":
            here = self.costs.params_attention if sub_block == "attention" else self.costs.params_ffn
            return here[layer][name]
        known = getattr(self.layers[layer].with_parent(), sub_block)
        return fact(next(a for a in known if a.name == name), attribute, self.shape.at(layer))


def decimal(value: float) -> Fraction:
    """Return the shortest decimal that reads back as the float, exactly: the number that its JSON or CSV file shows."""
    return Fraction(repr(float(value)))


def tables_of(program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]) -> Tables:
    """Collect the inputs of a search, checked to be complete and finite. Raises DiagnosticError with all mistakes."""
    sink = Sink()
    here = program.searches[search]
    needs, where = needed(program, search), span_of(here.where)
    for name in sorted(needs.scores - set(scores)):
        sink.add(ScoresNotThere(where, name=name, file=program.source))
    if (missing := _no_influence(program, here, scores)) is not None:
        sink.add(missing)
    for name in sorted(n for n in needs.scenarios if not costs.scenarios.get(n)):
        sink.add(CostsNotThere(where, name=name, file=program.source))
    for name in sorted(needs.scores & set(scores)):
        table = scores[name]
        parts = (*table.attention, *table.ffn, *table.pairs)
        numbers = [table.offset, *(r.value for r in table.runs)]
        numbers += [v for p in parts for v in p.values()]
        if not all(map(math.isfinite, numbers)):
            sink.add(Unbounded(where, what=f"score `{name}`", name=search))
    for problem in _unknown_metrics(here, costs):
        sink.add(problem)
    layers = program.spaces[here.space].layers
    for name in sorted(needs.scenarios & set(costs.scenarios)):
        for at_batch in costs.scenarios[name]:
            for alternative, layer in _not_costed(at_batch, layers):
                sink.add(AlternativeNotCosted(where, name=name, alternative=alternative, layer=layer))
    if sink.has_errors:
        raise DiagnosticError(*sink.sorted())
    space = program.spaces[here.space]
    profiles = {n: found for n in costs.auto if (found := any_batch(program, space, costs, n)) is not None}
    runs = {
        n: {(r.first, r.length): r.value for r in table.runs} for n, table in scores.items() if table.runs
    }
    return Tables(program, here, costs, scores, tuple(sorted(needs.scenarios)), profiles, runs)


def _no_influence(
    program: Program, search: Search, scores: Mapping[str, ScoreTable]
) -> NothingMeasured | NoInfluence | None:
    """Return the diagnostic for a solver that needs block influence which no score measures or the table lacks; else None."""
    if not (isinstance(search.solver, Baseline) and drops_by_influence(search)):
        return None
    solver, where = search.solver.kind, span_of(search.where)
    name = influence_score(program, search)
    if name is None:
        return NothingMeasured(where, search=search.name, solver=solver, space=search.space)
    if name not in scores or influence_of(program, search, scores) is not None:
        return None
    return NoInfluence(where, name=name, solver=solver, file=program.source)


def _unknown_metrics(search: Search, costs: CostTable) -> Iterator[MetricUnknown]:
    """Yield a diagnostic for each metric in a search that its scenario's costs do not have, at its source location."""
    for linear, where in placed_linears(search):
        for weighted in linear.terms:
            term = weighted.term
            if not isinstance(term, MetricTerm):
                continue
            if any(term.metric in c.unknown for c in costs.scenarios.get(term.scenario, ())):
                dimension = DIMENSIONS.get(term.metric)
                column = (
                    f"{term.metric}[{'bytes' if dimension == BYTES else 'us'}]"
                    if dimension
                    else "latency[us]"
                )
                yield MetricUnknown(span_of(where), scenario=term.scenario, metric=term.metric, column=column)


def _not_costed(costs: ScenarioCosts, layers: tuple[LayerChoice, ...]) -> list[tuple[str, int]]:
    missing = []
    known: dict[int, tuple[list[str], list[str]]] = {}
    for index, choice in enumerate(layers):
        if id(choice) not in known:
            known[id(choice)] = [a.name for a in choice.attention], [a.name for a in choice.ffn]
        attentions, ffns = known[id(choice)]
        if costs.attention[index].keys() >= {*attentions} and costs.ffn[index].keys() >= {*ffns}:
            continue
        pairs = costs.pairs[index] if costs.pairs else {}
        for attention, ffn in product(attentions, ffns):
            if f"{attention}/{ffn}" not in pairs:
                missing += [(f"attention {attention}", index)] * (attention not in costs.attention[index])
                missing += [(f"ffn {ffn}", index)] * (ffn not in costs.ffn[index])
    return missing
