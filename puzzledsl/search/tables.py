"""A search with everything it reads, checked to be there: what problems, metrics and proofs are made from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from puzzledsl.cost.any_batch import AnyBatch, any_batch
from puzzledsl.diagnostics import DiagnosticError, Sink
from puzzledsl.ir.alternatives import ParentAttention, ParentFfn, SubBlock, name_of
from puzzledsl.ir.errors_spaces import NothingMeasured
from puzzledsl.ir.facts import fact
from puzzledsl.ir.layer_runs import Run
from puzzledsl.ir.metrics import fits
from puzzledsl.ir.nodes import Baseline, LayerChoice, MetricTerm, Program, ScoreTerm, Search, Shape
from puzzledsl.ir.solvers import drops_by_influence, influence_score
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScenarioCosts, ScoreTable
from puzzledsl.search.errors import (
    AlternativeNotCosted,
    AlternativeNotScored,
    CostsNotThere,
    MetricUnknown,
    NoInfluence,
    PairwiseNotGoal,
    ScoresNotThere,
    Unbounded,
    span_of,
)
from puzzledsl.search.needs import influence_of, needed, placed_linears

Place = tuple[int, str, str]  # layer, sub-block, alternative
Partners = Mapping[Place, Mapping[Place, float]]
PARENT = LayerAssignment(attention="parent", ffn="parent")


@dataclass(frozen=True, slots=True)
class Tables:
    """The inputs of one search. `scenarios` are those it mentions, in alphabetical order."""

    program: Program
    search: Search
    costs: CostTable
    scores: Mapping[str, ScoreTable]
    scenarios: tuple[str, ...]
    partners: Mapping[str, Partners] = field(default_factory=dict)  # of the scores with pairwise terms
    profiles: Mapping[str, AnyBatch] = field(default_factory=dict)  # of the scenarios that run at any batch
    runs: Mapping[str, Mapping[Run, float]] = field(default_factory=dict)

    @property
    def has_pairwise_goal(self) -> bool:
        """Whether the search's goal has a score with pairwise terms: it is no sum over layers then."""
        terms = (w.term for w in self.search.objective.terms)
        return any(isinstance(t, ScoreTerm) and t.score in self.partners for t in terms)

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """What each layer may become."""
        return self.program.spaces[self.search.space].layers

    @property
    def shape(self) -> Shape:
        """The parent's shape."""
        return self.program.parents[self.program.spaces[self.search.space].parent].shape

    def at(self, scenario: str, batch: int) -> ScenarioCosts:
        """A scenario's costs at one of its batches. Raises KeyError for a batch that is no candidate."""
        if batch not in self.candidates(scenario):
            raise KeyError((scenario, batch))
        if scenario in self.profiles:
            return self.profiles[scenario].at(batch)
        return next(costs for costs in self.costs.scenarios[scenario] if costs.batch == batch)

    def candidates(self, scenario: str) -> Sequence[int]:
        """The batches that a scenario may run at, ascending: every one on a profile with `auto`, else those of the table."""
        if scenario in self.profiles:
            return range(1, self.costs.auto[scenario] + 1)
        return [costs.batch for costs in self.costs.scenarios[scenario]]

    def larger(self, scenario: str, batch: int) -> Sequence[int]:
        """Candidates that, if none of them fits, leave no larger one that does: the next of a profile, else all that follow."""
        if scenario in self.profiles:
            return [batch + 1] if batch < self.costs.auto[scenario] else []
        return [b for b in self.candidates(scenario) if b > batch]

    def largest_batch(self, scenario: str, layers: Sequence[LayerAssignment]) -> int:
        """The largest candidate that a model fits at, where it is `auto`; 0 where it fits at none."""
        if scenario in self.profiles:
            return self.profiles[scenario].largest(layers)
        return max((c.batch for c in self.costs.scenarios[scenario] if fits(c, layers)), default=0)

    def batch_choices(self) -> Iterator[dict[str, int]]:
        """Every combination of candidate batches of the scenarios that the search mentions, smallest batches first."""
        for batches in product(*map(self.candidates, self.scenarios)):
            yield dict(zip(self.scenarios, batches, strict=True))

    def score(self, name: str, layer: int, choice: LayerAssignment) -> Fraction:
        """A layer's score: the decimal number its table shows. 0 for the parent. Raises DiagnosticError where it is absent."""
        if self.scores[name].unit == "block":
            return decimal(self.pair_score(name, layer, choice.attention, choice.ffn))
        attention = decimal(self.sub_block_score(name, layer, "attention", choice.attention))
        return attention + decimal(self.sub_block_score(name, layer, "ffn", choice.ffn))

    def pair_score(self, name: str, layer: int, attention: str, ffn: str) -> float:
        """A layer's score, where attention and FFN are scored together."""
        return self._one_score(name, self.scores[name].pairs, layer, f"{attention}/{ffn}")

    def pair_scores(self, name: str, layer: int, keys: Sequence[str]) -> list[float]:
        """`pair_score` of many pairs, `attention/ffn`."""
        pairs = self.scores[name].pairs
        here = pairs[layer] if layer < len(pairs) else {}
        found = zip(keys, map(here.get, keys), strict=True)
        return [self._one_score(name, pairs, layer, key) if value is None else value for key, value in found]

    def sub_block_score(self, name: str, layer: int, sub_block: SubBlock, key: str) -> float:
        """One sub-block's part of a layer's score, where they are scored apart."""
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

    def pairwise(self, name: str, layers: Sequence[LayerAssignment]) -> Fraction:
        """What a model's choices score in pairs, beyond the sum."""
        partners = self.partners.get(name)
        if partners is None:
            return Fraction(0)
        chosen = {p for i, c in enumerate(layers) for p in _places_of(i, c)}
        found = [partners[p] for p in sorted(chosen) if p in partners]
        return sum((decimal(v) for others in found for q, v in others.items() if q in chosen), Fraction(0))

    def params(self, layer: int, choice: LayerAssignment) -> int:
        """Parameters of a layer's two sub-blocks."""
        return self.costs.params_attention[layer][choice.attention] + self.costs.params_ffn[layer][choice.ffn]

    def fact(self, sub_block: SubBlock, attribute: str, layer: int, name: str) -> int:
        """A number of one alternative (FactTerm)."""
        if attribute == "params":
            here = self.costs.params_attention if sub_block == "attention" else self.costs.params_ffn
            return here[layer][name]
        choice = self.layers[layer]
        known = (
            (*choice.attention, ParentAttention()) if sub_block == "attention" else (*choice.ffn, ParentFfn())
        )
        return fact(next(a for a in known if name_of(a) == name), attribute, self.shape)


def _places_of(layer: int, choice: LayerAssignment) -> tuple[Place, Place, Place]:
    block = f"{choice.attention}/{choice.ffn}"
    return (layer, "attention", choice.attention), (layer, "ffn", choice.ffn), (layer, "block", block)


def _partners(table: ScoreTable) -> Partners:
    """The pairwise terms by their first place, then by their second."""
    partners: dict[Place, dict[Place, float]] = {}
    for term in table.pairwise:
        others = partners.setdefault((term.layer, term.sub_block, term.name), {})
        others[term.other_layer, term.other_sub_block, term.other_name] = term.value
    return partners


def decimal(value: float) -> Fraction:
    """A float as the shortest decimal that reads back as it: the number its JSON or CSV file shows."""
    return Fraction(repr(float(value)))


def tables_of(program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]) -> Tables:
    """Check that everything `search` reads is there and finite. Raises DiagnosticError with every mistake."""
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
        numbers = [table.offset, *(t.value for t in table.pairwise), *(r.value for r in table.runs)]
        numbers += [v for p in parts for v in p.values()]
        if not all(map(math.isfinite, numbers)):
            sink.add(Unbounded(where, what=f"score `{name}`", name=search))
    for problem in (*_unknown_metrics(here, costs), *_pairwise_elsewhere(here, scores)):
        sink.add(problem)
    layers = program.spaces[here.space].layers
    for name in sorted(needs.scenarios & set(costs.scenarios)):
        for at_batch in costs.scenarios[name]:
            for alternative, layer in _not_costed(at_batch, layers):
                sink.add(AlternativeNotCosted(where, name=name, alternative=alternative, layer=layer))
    if sink.has_errors:
        raise DiagnosticError(*sink.sorted())
    partners = {name: _partners(table) for name, table in scores.items() if table.pairwise}
    space = program.spaces[here.space]
    profiles = {n: found for n in costs.auto if (found := any_batch(program, space, costs, n)) is not None}
    runs = {
        n: {(r.first, r.length): r.value for r in table.runs} for n, table in scores.items() if table.runs
    }
    return Tables(program, here, costs, scores, tuple(sorted(needs.scenarios)), partners, profiles, runs)


def _no_influence(
    program: Program, search: Search, scores: Mapping[str, ScoreTable]
) -> NothingMeasured | NoInfluence | None:
    """Nothing to have the block influences that the search's solver drops layers by, or a table without them."""
    if not (isinstance(search.solver, Baseline) and drops_by_influence(search)):
        return None
    solver, where = search.solver.kind, span_of(search.where)
    name = influence_score(program, search)
    if name is None:
        return NothingMeasured(where, search=search.name, solver=solver, space=search.space)
    if name not in scores or influence_of(program, search, scores) is not None:
        return None
    return NoInfluence(where, name=name, solver=solver, file=program.source)


_COLUMNS = {
    **{size: f"{size}[bytes]" for size in ("memory", "weights", "kv_cache")},
    **{time: f"{time}[us]" for time in ("ttft", "tpot")},
}


def _unknown_metrics(search: Search, costs: CostTable) -> Iterator[MetricUnknown]:
    """What a search mentions and its costs do not say, where it is mentioned."""
    for linear, where in placed_linears(search):
        for weighted in linear.terms:
            term = weighted.term
            if not isinstance(term, MetricTerm):
                continue
            if any(term.metric in c.unknown for c in costs.scenarios.get(term.scenario, ())):
                column = _COLUMNS.get(term.metric, "latency[us]")
                yield MetricUnknown(span_of(where), scenario=term.scenario, metric=term.metric, column=column)


def _pairwise_elsewhere(search: Search, scores: Mapping[str, ScoreTable]) -> Iterator[PairwiseNotGoal]:
    """Scores with pairwise terms anywhere but in the goal; preferences behind such a goal, and scores of runs beside it."""
    paired = {name for name, table in scores.items() if table.pairwise}
    with_runs = {name for name, table in scores.items() if table.runs}
    goal = sorted({w.term.score for w in search.objective.terms if isinstance(w.term, ScoreTerm)} & paired)
    for place, (linear, where) in enumerate(placed_linears(search)):
        asked = {w.term.score for w in linear.terms if isinstance(w.term, ScoreTerm)}
        names = sorted(asked & paired)
        if goal and asked & with_runs:
            what = f"beside `{min(asked & with_runs)}`, which scores runs of layers"
            yield PairwiseNotGoal(span_of(where), score=goal[0], what=what)
        if names and place > 0:
            yield PairwiseNotGoal(span_of(where), score=names[0], what="this")
        elif names and search.preferences:
            yield PairwiseNotGoal(
                span_of(search.preferences[0].where), score=names[0], what="a preference after it"
            )


def _not_costed(costs: ScenarioCosts, layers: tuple[LayerChoice, ...]) -> list[tuple[str, int]]:
    missing = []
    known: dict[int, tuple[list[str], list[str]]] = {}
    for index, choice in enumerate(layers):
        if id(choice) not in known:
            known[id(choice)] = [*map(name_of, choice.attention)], [*map(name_of, choice.ffn)]
        attentions, ffns = known[id(choice)]
        if costs.attention[index].keys() >= {*attentions} and costs.ffn[index].keys() >= {*ffns}:
            continue
        pairs = costs.pairs[index] if costs.pairs else {}
        for attention, ffn in product(attentions, ffns):
            if f"{attention}/{ffn}" not in pairs:
                missing += [(f"attention {attention}", index)] * (attention not in costs.attention[index])
                missing += [(f"ffn {ffn}", index)] * (ffn not in costs.ffn[index])
    return missing
