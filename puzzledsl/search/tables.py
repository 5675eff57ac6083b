"""The inputs of one search (program, costs, scores), checked for completeness, and lookups in them."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Literal

from puzzledsl.alternatives.alternative import ENDS, EndName, SubBlock
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError, Mistake, Sink
from puzzledsl.base.units import BYTES
from puzzledsl.costs.csv_table import DIMENSIONS
from puzzledsl.costs.metrics import fits, with_loads
from puzzledsl.costs.roofline import AnyBatch, any_batch
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.facts import Run, dropped_names, fact, untied_params
from puzzledsl.ir.references import mentioned_scores, places_of, scenarios_read
from puzzledsl.ir.tables.answers import PARENT, PARENT_ENDS, Assignment, EndsAssignment, LayerAssignment
from puzzledsl.ir.tables.summed import CostTable, ScenarioCosts, ScoreTable

Part = SubBlock | EndName | Literal["pairs"]


ScoresNotThere = Mistake("E0502", "scores `{name}` are not there yet", "run `pzl score {file} {name}`")
CostsNotThere = Mistake("E0503", "costs of scenario `{name}` are not there yet", "run `pzl measure {file}`")
AlternativeNotScored = Mistake(
    "E0504",
    "scores `{name}` have no entry for `{alternative}`{place}",
    "run `pzl score {file} {name}` again, or take the alternative out of the space",
)
AlternativeNotCosted = Mistake(
    "E0505",
    "the costs of scenario `{name}` leave out `{alternative}` in layer {layer}",
    "make the costs again, or take the alternative out of the space",
)
Unbounded = Mistake(
    "E0506",
    "{what} of search `{name}` is not a finite number",
    "make the table again: a score or cost in it is not finite",
)
MetricUnknown = Mistake(
    "E0508",
    "the costs of scenario `{scenario}` do not give its {metric}",
    "add a column `{scenario}.{column}` to the table, or take `{scenario}.{metric}` out of the search",
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The inputs of one search. `scenarios`: those it mentions, alphabetically; of traffic one for each load (`busy@p95`)."""

    program: nodes.Program
    search: nodes.Search
    costs: CostTable
    scores: Mapping[str, ScoreTable]
    scenarios: tuple[str, ...]
    profiles: Mapping[str, AnyBatch] = field(default_factory=dict)  # scenarios that may run at any batch
    runs: Mapping[str, Mapping[Run, float]] = field(default_factory=dict)  # by score: those of dropped layers

    @property
    def layers(self) -> tuple[nodes.LayerChoice, ...]:
        """The alternatives of each layer."""
        return self.program.spaces[self.search.space].layers

    @property
    def ends(self) -> nodes.EndsChoice | None:
        """The alternatives of the model's ends; None where they stay as they are."""
        return self.program.spaces[self.search.space].ends

    @property
    def offered(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Names of the alternatives of each layer's two sub-blocks; then, where they have a choice, of the model's ends."""
        own = {id(c): (tuple(a.name for a in c.attention), tuple(f.name for f in c.ffn)) for c in self.layers}
        layers = [own[id(choice)] for choice in self.layers]
        if self.ends is None:
            return layers
        return [*layers, (tuple(e.name for e in self.ends.embedding), tuple(h.name for h in self.ends.head))]

    @property
    def parent(self) -> tuple[Assignment, ...]:
        """The choices of the parent."""
        return (PARENT,) * len(self.layers) + (() if self.ends is None else (PARENT_ENDS,))

    @property
    def shape(self) -> nodes.Shape:
        """Shape of the parent."""
        return self.program.parents[self.program.spaces[self.search.space].parent].shape

    def dropped(self) -> list[LayerAssignment | None]:
        """Return the choice that drops each layer; None for one that has no sub-blocks, and for the model's ends."""
        layers = [
            None if names is None else LayerAssignment(attention=names[0], ffn=names[1])
            for names in dropped_names(self.shape)
        ]
        return layers if self.ends is None else [*layers, None]

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

    def fitting(self, scenario: str, low: int, high: int) -> tuple[int | None, Sequence[int]]:
        """Return (batch or None, others): a model whose own batch is from `low` to `high` fits at `batch`, not at `others`.

        A profile's batch fits only if smaller ones do. Batches above one that sustains traffic do; if none do, the largest runs.
        """
        batches = self.candidates(scenario)
        if self.is_traffic(scenario):
            return high if high < batches[-1] else None, [low - 1] if low > batches[0] else []
        if scenario in self.profiles:
            return low, [high + 1] if high < self.costs.auto[scenario] else []
        return low, [b for b in batches if b > high]

    def is_traffic(self, scenario: str) -> bool:
        """True if a scenario is under traffic, where a model runs at the least batch that sustains it."""
        return self.costs.scenarios[scenario][0].rate is not None

    def largest_batch(self, scenario: str, layers: Sequence[Assignment]) -> int:
        """Return the largest batch at which a model fits, else 0; under traffic, the least that sustains it, else the largest."""
        if scenario in self.profiles:
            return self.profiles[scenario].largest(layers)
        if self.is_traffic(scenario):
            listed = self.costs.scenarios[scenario]
            return next((c.batch for c in listed if fits(c, layers)), listed[-1].batch)
        return max((c.batch for c in self.costs.scenarios[scenario] if fits(c, layers)), default=0)

    def of_parent(self, batches: Mapping[str, int]) -> dict[str, int]:
        """Return the parent's batches beside a child at `batches`: the same ones, except under traffic the parent's own."""
        own = {name: self.largest_batch(name, self.parent) for name in batches if self.is_traffic(name)}
        return {**batches, **own}

    def batch_choices(self) -> Iterator[dict[str, int]]:
        """Yield every combination of candidate batches of the search's scenarios, smallest first."""
        for batches in product(*map(self.candidates, self.scenarios)):
            yield dict(zip(self.scenarios, batches, strict=True))

    def score(self, name: str, layer: int, choice: Assignment) -> Fraction:
        """Return the exact score of a layer's choice or of the ends, without runs. Raises as `entry` if it is not scored."""
        if isinstance(choice, EndsAssignment):
            parts: list[tuple[Part, str]] = [(site, getattr(choice, site)) for site in ENDS]
        elif self.scores[name].unit == "block":
            parts = [("pairs", f"{choice.attention}/{choice.ffn}")]
        else:
            parts = [("attention", choice.attention), ("ffn", choice.ffn)]
        return sum((decimal(self.entry(name, part, key, layer)) for part, key in parts), Fraction(0))

    def entry(self, name: str, part: Part, key: str, layer: int) -> float:
        """Return an entry of a score; 0 for a parent that is not listed. Raises DiagnosticError (AlternativeNotScored)."""
        listed, of_layer = getattr(self.scores[name], part), part not in ENDS
        if of_layer:
            listed = listed[layer] if layer < len(listed) else {}
        value: float | None = listed.get(key)
        if value is not None or key in ("parent", "parent/parent"):
            return value or 0.0
        place, missing = f" in layer {layer}" if of_layer else "", f"{part} {key}".removeprefix("pairs ")
        where, file = span_of(self.search.where), shlex.quote(self.program.source)
        told = AlternativeNotScored(where, name=name, alternative=missing, place=place, file=file)
        raise DiagnosticError(told)

    def params(self, layer: int, choice: Assignment) -> int:
        """Return the parameters of a layer's sub-blocks; of the ends, those of a second matrix if types untie them, else 0."""
        if isinstance(choice, EndsAssignment):
            return untied_params(self.shape, choice.embedding, choice.head)
        return self.costs.params_attention[layer][choice.attention] + self.costs.params_ffn[layer][choice.ffn]

    def fact(self, sub_block: SubBlock, attribute: str, layer: int, name: str) -> int:
        """Return an attribute of an alternative, such as its width or number of parameters (see FactTerm)."""
        if attribute == "params":
            here = self.costs.params_attention if sub_block == "attention" else self.costs.params_ffn
            return here[layer][name]
        known = getattr(self.layers[layer].with_parent(), sub_block)
        return fact(next(a for a in known if a.name == name), attribute, self.shape.at(layer))


@lru_cache(maxsize=65_536)  # of a table of 80 layers, the same 4,320 numbers for every answer
def decimal(value: float) -> Fraction:
    """Return the shortest decimal that reads back as the float, exactly: the number that its JSON or CSV file shows."""
    return Fraction(repr(float(value)))


def tables_of(
    program: nodes.Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> Tables:
    """Collect the inputs of a search, checked to be complete and finite. Raises DiagnosticError with all mistakes."""
    here, sink = program.searches[search], Sink()
    costs = with_loads(costs)
    if program.spaces[here.space].ends is not None:  # tables and measurements know nothing of them
        known = {name: listed for name, listed in costs.scenarios.items() if all(c.ends for c in listed)}
        costs = costs.model_copy(update={"scenarios": known})
    for mistake in _mistakes(program, here, costs, scores):
        sink.add(mistake)
    if sink.has_errors:
        raise DiagnosticError(*sink.sorted())
    scenarios, space = places_of(here), program.spaces[here.space]
    profiles = {n: found for n in costs.auto if (found := any_batch(program, space, costs, n)) is not None}
    runs = {n: {(r.first, r.length): r.value for r in t.runs} for n, t in scores.items() if t.runs}
    return Tables(program, here, costs, scores, scenarios, profiles, runs)


def _mistakes(
    program: nodes.Program, search: nodes.Search, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each input that is missing, incomplete or not finite."""
    read, scenarios, where = {*mentioned_scores(search)}, scenarios_read(search), span_of(search.where)
    file = shlex.quote(program.source)  # as a shell takes it
    for name in sorted(read - scores.keys()):
        yield ScoresNotThere(where, name=name, file=file)
    for name in sorted(n for n in scenarios if not costs.scenarios.get(n)):
        yield CostsNotThere(where, name=name, file=file)
    for name in sorted(read & scores.keys()):
        table = scores[name]
        parts = (*table.attention, *table.ffn, *table.pairs, table.embedding, table.head)
        cells = (value for part in parts for value in part.values())
        if not all(map(math.isfinite, (table.offset, *(run.value for run in table.runs), *cells))):
            yield Unbounded(where, what=f"score `{name}`", name=search.name)
    placed = [(search.objective, search.where), *((p.goal, p.where) for p in search.preferences)]
    placed += [(r.left, r.where) for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
    for term, at in ((weighted.term, at) for linear, at in placed for weighted in linear.terms):
        if isinstance(term, nodes.MetricTerm) and any(
            term.metric in c.unknown for c in costs.scenarios.get(term.scenario, ())
        ):
            dimension = DIMENSIONS.get(term.metric)
            unit = "bytes" if dimension == BYTES else "us"
            column = f"{term.metric}[{unit}]" if dimension else "latency[us]"
            yield MetricUnknown(span_of(at), scenario=term.scenario, metric=term.metric, column=column)
    for name in sorted(scenarios & costs.scenarios.keys()):
        for at_batch in costs.scenarios[name]:
            for alternative, layer in _not_costed(at_batch, program.spaces[search.space].layers):
                yield AlternativeNotCosted(where, name=name, alternative=alternative, layer=layer)


def _not_costed(costs: ScenarioCosts, layers: Sequence[nodes.LayerChoice]) -> Iterator[tuple[str, int]]:
    """Yield (alternative, layer) where it has no cost alone and some pair with it is not listed either; some more than once."""
    for index, choice in enumerate(layers):
        offered = [a.name for a in choice.attention], [f.name for f in choice.ffn]
        here, pairs = (costs.attention[index], costs.ffn[index]), costs.pairs[index] if costs.pairs else {}
        if all(own.keys() >= {*names} for names, own in zip(offered, here, strict=True)):
            continue
        for names in product(*offered):
            if "/".join(names) not in pairs:
                parts = zip(("attention", "ffn"), names, here, strict=True)
                yield from ((f"{part} {name}", index) for part, name, own in parts if name not in own)
