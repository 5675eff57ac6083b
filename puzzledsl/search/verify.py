"""Independent verification of a solution, in exact fractions from the tables. It uses nothing else of `puzzledsl.search`.

The evaluation of a child is from the definitions of docs/language.md and deliberately naive: one fraction for each term, layer by
layer. The solver has its own (`search.problem.metrics`).
"""

import operator
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from math import ceil, exp, factorial, lgamma, log
from typing import Literal, assert_never

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, Site, SubBlock
from puzzledsl.alternatives.parent import ParentAttention, ParentEmbedding, ParentFfn, ParentHead
from puzzledsl.alternatives.weights import state_size
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import CACHE_BYTES, DTYPE_BYTES
from puzzledsl.costs.roofline import fixed_line, sub_block_cost
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fact
from puzzledsl.ir.metric_records import metrics_under
from puzzledsl.ir.references import places_of
from puzzledsl.ir.tables.answers import PARENT, PARENT_ENDS, EndsAssignment, LayerAssignment, Solution
from puzzledsl.ir.tables.summed import Cost, CostTable, ScenarioCosts, ScoreTable

COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}
SECONDS = Fraction(1, 10**9)  # the tables' times are in nanoseconds


@dataclass(frozen=True)
class Model:
    """A child with its batches, and the tables that it is evaluated with."""

    program: nodes.Program
    costs: CostTable
    scores: Mapping[str, ScoreTable]
    layers: tuple[LayerAssignment, ...]
    batches: Mapping[str, int]
    ends: EndsAssignment = PARENT_ENDS

    def meets(self, requirement: nodes.Requirement) -> bool:
        """True if a requirement holds."""
        match requirement:
            case nodes.LinearRequirement(left=left, op=op, bound=bound, parent_ratio=ratio):
                if ratio is not None:
                    parent = replace(self, layers=(PARENT,) * len(self.layers), ends=PARENT_ENDS)
                    own = [n for n in self.batches if self._head(n, 1).rate is not None]
                    batches = {**self.batches, **{n: parent.largest_batch(n) for n in own}}
                    bound = ratio * replace(parent, batches=batches).value(left)
                assert bound is not None, "a requirement has a bound or a ratio"
                return bool(COMPARE[op](self.value(left), bound))
            case nodes.LogicRequirement(formula=formula):
                return self.is_true(formula)
            case _:
                assert_never(requirement)

    def is_true(self, formula: nodes.Logic) -> bool:
        """Return the truth value of a formula."""
        match formula:
            case nodes.Is(layer=layer, sub_block=sub_block, alternatives=alternatives):
                return self.choice(layer, sub_block) in alternatives
            case nodes.Not(operand=operand):
                return not self.is_true(operand)
            case nodes.And(operands=operands):
                return all(map(self.is_true, operands))
            case nodes.Or(operands=operands):
                return any(map(self.is_true, operands))
            case nodes.Implies(condition=condition, consequence=consequence):
                return not self.is_true(condition) or self.is_true(consequence)
            case nodes.Compare(left=left, op=op, bound=bound):
                return bool(COMPARE[op](self.value(left), bound))
            case nodes.Same(left=first, right=second, sub_blocks=parts):
                return all(self.choice(first, part) == self.choice(second, part) for part in parts)
            case nodes.Runs(statements=statements, at_least=least, at_most=most):
                return _is_within(len(self._run_lengths(statements)), least, most)
            case nodes.Longest(statements=statements, at_least=least, at_most=most):
                return _is_within(max(self._run_lengths(statements), default=0), least, most)
            case nodes.Distinct(taken=taken, at_least=least, at_most=most):
                values = {each.values[0][0] for each in taken if not each.layers}  # the same for every child
                values |= {each.values[row][place] for each in taken for row, place in self._places(each)}
                return _is_within(len(values), least, most)
            case _:
                assert_never(formula)

    def _run_lengths(self, statements: tuple[nodes.Logic, ...]) -> list[int]:
        """Return the lengths of the runs of statements that hold."""
        return [len([*run]) for holds, run in groupby(map(self.is_true, statements)) if holds]

    def value(self, linear: nodes.Linear) -> Fraction:
        """Return the value of a linear expression, in base units."""
        return sum((w.coefficient * self.term(w.term) for w in linear.terms), linear.constant)

    def term(self, term: nodes.Term) -> Fraction:
        """Return the value of one term, in base units."""
        match term:
            case nodes.MetricTerm(place=scenario, metric=metric):
                return self.metrics[scenario][metric]
            case nodes.ScoreTerm(score=score):
                return self.totals[score]
            case nodes.ParamsTerm():
                return self.params
            case nodes.FactTerm(sub_block=part, attribute=attribute, layers=layers):
                if attribute == "params":
                    return Fraction(sum(self._params(layer, part) for layer in layers))
                own = ((self._alternative(layer, part), self._shape.at(layer)) for layer in layers)
                return Fraction(sum(fact(alternative, attribute, shape) for alternative, shape in own))
            case nodes.CountTerm(sub_block=part, alternatives=alternatives, layers=layers):
                return Fraction(sum(self.choice(layer, part) in alternatives for layer in layers))
            case nodes.TableTerm(values=values):
                return sum((values[row][place] for row, place in self._places(term)), Fraction(0))
            case _:
                assert_never(term)

    def _places(self, table: nodes.TableTerm | nodes.Taken) -> Iterator[tuple[int, int]]:
        """Yield (row, column) in `table.values` of each layer's choice; 0 for a sub-block on which the table does not depend."""
        for choice in map(self.layers.__getitem__, table.layers):
            row = table.attention.index(choice.attention) if table.attention else 0
            yield row, table.ffn.index(choice.ffn) if table.ffn else 0

    @property
    def params(self) -> Fraction:
        """Number of parameters; a tied embedding counts once, unless types that differ untie it."""
        params = (self._params(layer, part) for layer in range(len(self.layers)) for part in SUB_BLOCKS)
        untied = self._shape.tied and self.ends.embedding != self.ends.head
        second = self._shape.vocab * self._shape.hidden if untied else 0
        return Fraction(self.costs.params_fixed + second + sum(params))

    def choice(self, layer: int, site: Site) -> str:
        """Return the name of a layer's alternative, or of an end's."""
        if site in ("embedding", "head"):
            return self.ends.embedding if site == "embedding" else self.ends.head
        return self.layers[layer].attention if site == "attention" else self.layers[layer].ffn

    def _params(self, layer: int, part: SubBlock) -> int:
        table = self.costs.params_attention if part == "attention" else self.costs.params_ffn
        return table[layer][self.choice(layer, part)]

    def _alternative(self, layer: int, part: SubBlock) -> Alternative:
        offered = self.program.spaces[self.costs.space].layers[layer]
        known: tuple[Alternative, ...] = (
            (*offered.attention, ParentAttention()) if part == "attention" else (*offered.ffn, ParentFfn())
        )
        return next(each for each in known if each.name == self.choice(layer, part))

    @property
    def _shape(self) -> nodes.Shape:
        return self.program.parents[self.program.spaces[self.costs.space].parent].shape

    @cached_property
    def metrics(self) -> dict[str, dict[str, Fraction]]:
        """Every metric of every scenario with a batch, in base units (docs/language.md, "The metrics of a scenario")."""
        return {scenario: self._metrics_of(scenario, batch) for scenario, batch in self.batches.items()}

    def _metrics_of(self, scenario: str, batch: int) -> dict[str, Fraction]:
        costs, head = [*self._costs_of(scenario, batch)], self._head(scenario, batch)
        weights, cache = sum(c.weights_bytes for c in costs), sum(c.kv_cache_bytes for c in costs)
        ttft = SECONDS * sum(c.prefill_ns for c in costs)
        tpot = SECONDS * sum(c.decode_ns for c in costs)
        latency = (ttft if head.rate is None else batch * ttft) + head.output * tpot
        per_token = latency / (batch * head.output)
        found = {
            "memory": Fraction(head.reserve_bytes + weights + cache),
            "weights": Fraction(weights),
            "kv_cache": Fraction(cache),
            "latency": latency,
            "ttft": ttft,
            "tpot": tpot,
            "throughput": batch * head.output / latency if latency else Fraction(0),
            "flops": Fraction(sum(c.prefill_flop + head.output * c.decode_flop for c in costs)),
            "batch": Fraction(batch),
        }
        if head.usd_per_s is not None:
            found["cost_per_mtok"] = 1_000_000 * head.usd_per_s * per_token
        if head.watts is not None:
            found["joules_per_tok"] = head.watts * per_token
        if head.rate is not None:
            mean, prompts, tail = 2 * batch / head.output, 0, 1.0
            while (tail := tail - exp(prompts * log(mean) - mean - lgamma(prompts + 1))) > 1 / 40:
                prompts += 1
            token = tpot + (batch - 1) * ttft / head.output
            found |= {"tpot": token, "ttft": ttft + token * 3 / 2, "utilisation": latency * head.rate / batch}
            found["p95_tpot"], found["max_rate"] = token, batch / latency
            found["p95_ttft"] = (2 + prompts) * ttft + 2 * tpot
            under = metrics_under(traffic=True)
            return {name: found[name] for name in found.keys() & under if under[name].load == head.load}
        return found

    def fits(self, scenario: str, batch: int) -> bool:
        """True if the KV cache fits into its share of the memory left by reserve and weights, or if traffic is sustained.

        Always true for a given batch. For the 95th percentile at most one request in 40 may wait (Erlang C, load in thousandths).
        """
        head = self._head(scenario, batch)
        if not head.is_own:
            return True
        costs = [*self._costs_of(scenario, batch)]
        if head.rate is not None:
            busy_ns = sum(batch * c.prefill_ns + head.output * c.decode_ns for c in costs)
            load = Fraction(ceil(1000 * SECONDS * head.rate * busy_ns), 1000)
            if head.load != "p95":
                return SECONDS * head.rate * busy_ns <= batch
            states = [load**k / factorial(k) for k in range(batch + 1)] if load < batch else []
            waits = states.pop() * batch / (batch - load) if states else Fraction(1)
            return 40 * waits <= sum(states) + waits
        assert head.capacity_bytes is not None
        left = head.capacity_bytes - head.reserve_bytes - sum(c.weights_bytes for c in costs)
        return sum(c.kv_cache_bytes for c in costs) <= head.kv_fraction * left

    def largest_batch(self, scenario: str) -> int:
        """Return the largest batch at which the child fits, else 0; under traffic the least that sustains it, else the largest.

        Candidates are the batches that the table lists, or, for `auto` on a profile, all up to a limit. There the cache of one
        layer takes `ceil(batch * bytes of a sequence)`, which never decreases with the batch.
        """
        if scenario not in self.costs.auto:
            listed = [costs.batch for costs in self.costs.scenarios[scenario]]
            if self._head(scenario, 1).rate is not None:
                return next((batch for batch in listed if self.fits(scenario, batch)), listed[-1])
            return max((batch for batch in listed if self.fits(scenario, batch)), default=0)
        hardware, table = self._profile(scenario), self.costs.scenarios[scenario][0]
        caches = Counter(self._sequence_bytes(scenario, layer) for layer in range(len(self.layers)))
        weights = self._of_ends(table).weights_bytes + sum(
            table.attention[i][c.attention].weights_bytes + table.ffn[i][c.ffn].weights_bytes
            for i, c in enumerate(self.layers)
        )
        room = (hardware.memory_bytes - hardware.reserve_bytes - weights) * hardware.kv_fraction

        def is_beyond(batch: int) -> bool:
            return sum(n * -(-batch * one.numerator // one.denominator) for one, n in caches.items()) > room

        return bisect_left(range(1, self.costs.auto[scenario] + 1), True, key=is_beyond)

    def _sequence_bytes(self, scenario: str, layer: int) -> Fraction:
        """Return the bytes that one sequence keeps in one layer on one GPU, from the heads, window and state that are declared.

        These are keys and values of the tokens in the window, in whole pages, and a state: 4 bytes for a number of its recurrent
        part; for one of its convolution's inputs, the bytes of an activation, at least 2.
        """
        hardware, here = self._profile(scenario), self.program.scenarios[scenario]
        own, attention = self._shape.at(layer), self._alternative(layer, "attention")
        kept_whole = hardware.kv_policy == "full"
        length = here.prompt + (here.output if kept_whole else ceil(Fraction(here.output, 2)))
        window = attention.alone(own).attended
        kept = length if window is None else min(length, window)
        tokens = ceil(Fraction(kept, hardware.page_tokens)) * hardware.page_tokens
        heads = ceil(Fraction(attention.alone(own).cached_heads, hardware.gpus))
        state = state_size(attention.alone(own), hardware.gpus)
        residual = max(DTYPE_BYTES[hardware.activation_dtype or hardware.dtype], Fraction(2))
        cache = tokens * 2 * heads * own.head_dim * CACHE_BYTES[attention.cache or hardware.kv_dtype]
        return cache + 4 * state.scan + residual * state.conv

    def _profile(self, scenario: str) -> nodes.RooflineHardware:
        hardware = self.program.hardware[self.program.scenarios[scenario].hardware].spec
        assert isinstance(hardware, nodes.RooflineHardware), "only a profile takes any batch"
        return hardware

    def _head(self, scenario: str, batch: int) -> ScenarioCosts:
        """Return a scenario's entry at a batch, or else the first that is listed: only the costs in them differ."""
        listed = self.costs.scenarios[scenario]
        return next((costs for costs in listed if costs.batch == batch), listed[0])

    def _costs_of(self, scenario: str, batch: int) -> Iterator[Cost]:
        """Yield the costs that add up to the child's, fixed part first; computed for a batch that is not listed."""
        table = self._head(scenario, batch)
        if table.batch != batch:
            yield from self._roofline(scenario, batch)
            return
        yield self._of_ends(table)
        for i, choice in enumerate(self.layers):
            pair = table.pairs[i].get(f"{choice.attention}/{choice.ffn}") if table.pairs else None
            if pair is not None:
                yield pair
            else:
                yield table.attention[i][choice.attention]
                yield table.ffn[i][choice.ffn]

    def _of_ends(self, table: ScenarioCosts) -> Cost:
        """Return the cost of embedding, final norm and head, by the types of both where they are a choice."""
        return table.ends[f"{self.ends.embedding}/{self.ends.head}"] if table.ends else table.fixed

    def _roofline(self, scenario: str, batch: int) -> Iterator[Cost]:
        here, hardware = self.program.scenarios[scenario], self._profile(scenario)
        work, known = Workload(batch, here.prompt, here.output), dict[tuple[int, str], Cost]()
        offered = self.program.spaces[self.costs.space].ends or nodes.EndsChoice()
        embedding = next((e for e in offered.embedding if e.name == self.ends.embedding), ParentEmbedding())
        head = next((h for h in offered.head if h.name == self.ends.head), ParentHead())
        yield fixed_line(hardware, self._shape, embedding, head).at(batch)
        for part in SUB_BLOCKS:
            for layer in range(len(self.layers)):
                own = self._shape.at(layer)
                key = id(own), f"{part} {self.choice(layer, part)}"
                if key not in known:
                    known[key] = sub_block_cost(hardware, own, self._alternative(layer, part), work)
                yield known[key]

    @cached_property
    def totals(self) -> dict[str, Fraction]:
        """Every score, summed over the child."""
        return {name: self._total(table) for name, table in self.scores.items()}

    def _total(self, table: ScoreTable) -> Fraction:
        """Return a score of the child: the sum of offset, measured runs of dropped layers, all other layers, and the ends."""
        measured = {(run.first, run.length): run.value for run in table.runs}
        runs = self._runs(measured)
        alone = set(range(len(self.layers))) - {i for first, n in runs for i in range(first, first + n)}
        values = [table.offset, *(measured[run] for run in runs)]
        for layer in sorted(alone):  # of its pair, or of its sub-blocks; a parent that is not listed is 0
            choice = self.layers[layer]
            parts = [(choice.attention, table.attention), (choice.ffn, table.ffn)]
            if table.unit == "block":
                parts = [(f"{choice.attention}/{choice.ffn}", table.pairs)]
            for name, tables in parts:
                listed = tables[layer] if layer < len(tables) else {}
                is_free = name not in listed and name in ("parent", "parent/parent")
                values.append(0.0 if is_free else listed[name])
        ends = (self.ends.embedding, table.embedding), (self.ends.head, table.head)
        values += [entries.get(name, 0.0) if name == "parent" else entries[name] for name, entries in ends]
        decimals = (Fraction(repr(float(value))) for value in values)  # as the table shows them
        return sum(decimals, Fraction(0))

    def _runs(self, measured: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
        """Return the measured runs (first layer, length) that stand in place of their layers' own scores.

        Consecutive dropped layers are split into runs as long as the longest measured one; the last may be shorter. In place of a
        run that was not measured, its longest measured part from its first layer on counts, if there is one.
        """
        longest = max((length for _, length in measured), default=1)
        found, first = list[tuple[int, int]](), 0
        gone = []  # layers in which every sub-block that the parent has is a no-op, and it has one
        for layer, choice in enumerate(self.layers):
            own = self._shape.at(layer)
            there = ((own.mixer, choice.attention), (own.ffn, choice.ffn))
            gone.append({name for kind, name in there if kind != "none"} == {"noop"})
        for dropped, run in groupby(gone):
            end = first + len([*run])
            for start in range(first, end, longest) if dropped else ():
                parts = range(min(longest, end - start), 1, -1)
                found += [(start, part) for part in parts if (start, part) in measured][:1]
            first = end
        return found


def _is_within(number: int, least: int, most: int | None) -> bool:
    return number >= least and (most is None or number <= most)


@dataclass(frozen=True, slots=True)
class Violation:
    """One mistake in a solution."""

    kind: Literal["shape", "choice", "batch", "requirement", "objective", "metric", "sum"]
    message: str


def verify(
    program: nodes.Program,
    search: nodes.Search,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    solution: Solution,
    claimed: Fraction | None = None,
) -> list[Violation]:
    """Return the mistakes in a solution: choices outside the space, violated requirements, metrics that differ from the tables.

    Empty if it is right. `claimed`: the objective's value by the solver's integer sum, None if its integers are rounded. The
    tables must be complete.
    """
    space = program.spaces[search.space]
    chosen = tuple(choice for choice in solution.layers if isinstance(choice, LayerAssignment))
    ends = [c for c in solution.layers[len(chosen) :] if isinstance(c, EndsAssignment)]
    if len(chosen) != len(space.layers):
        return [Violation("shape", f"{len(chosen)} layers instead of {len(space.layers)}")]
    if len(ends) != (space.ends is not None):
        return [Violation("shape", f"{len(ends)} choices of the ends of the model")]
    model = Model(program, costs, scores, chosen, solution.batches, *ends)
    mentioned = places_of(search)
    if wrong := [*_choices(model, search, mentioned)]:
        return wrong
    batches = {  # the model's, else the largest that fits, else the smallest listed
        name: model.batches[name] if name in mentioned else model.largest_batch(name) or listed[0].batch
        for name, listed in costs.scenarios.items()
        if listed
    }
    model = replace(model, batches=batches)
    small = [
        Violation("batch", f"batch {batches[name]} of scenario {name} is not the largest that fits")
        for name in mentioned
        if costs.scenarios[name][0].is_own and batches[name] != model.largest_batch(name)
    ]
    broken = [
        Violation("requirement", f"requirement {number} `{requirement.where.text}` does not hold")
        for number, requirement in enumerate(search.requirements, start=1)
        if not model.meets(requirement)
    ]
    return [*small, *broken, *_figures(model, search, solution, claimed)]


def _choices(model: Model, search: nodes.Search, mentioned: Iterable[str]) -> Iterator[Violation]:
    """Yield a violation for each choice outside the space, and each batch that a mentioned scenario does not have."""
    space = model.program.spaces[search.space]
    if space.ends is not None:
        for name, known in ((model.ends.embedding, space.ends.embedding), (model.ends.head, space.ends.head)):
            if name not in (end.name for end in known):
                yield Violation("choice", f"the ends may not be {name}")
    for index, (chosen, offered) in enumerate(zip(model.layers, space.layers, strict=True)):
        for part in ("attention", "ffn"):
            if getattr(chosen, part) not in (a.name for a in getattr(offered, part)):
                yield Violation("choice", f"layer {index} may not have {part} {getattr(chosen, part)}")
    for name in mentioned:
        batch, most = model.batches.get(name, None), model.costs.auto.get(name)
        listed = {costs.batch for costs in model.costs.scenarios[name]}
        if batch is None or (batch not in listed if most is None else not 1 <= batch <= most):
            yield Violation("batch", f"scenario {name} has no batch {batch}")


def _figures(
    model: Model, search: nodes.Search, solution: Solution, claimed: Fraction | None
) -> Iterator[Violation]:
    exact = model.value(search.objective)
    if claimed is not None and claimed != exact:
        yield Violation("sum", f"the solver's sum is {float(claimed)!r}, the objective is {float(exact)!r}")
    if float(exact) != solution.objective:
        yield Violation("objective", f"the objective is {float(exact)!r}, not {solution.objective!r}")
    if model.batches != solution.batches:
        yield Violation("batch", f"the batches are {model.batches}, not {solution.batches}")
    exacts = {"params": model.params, **model.totals}
    for scenario, found in model.metrics.items():
        left_out = ("batch", *model.costs.scenarios[scenario][0].unknown)
        head = scenario.partition("@")[0]
        exacts |= {f"{head}.{name}": value for name, value in found.items() if name not in left_out}
    metrics = {name: float(value) for name, value in exacts.items()}
    for name in sorted(metrics.keys() | solution.metrics.keys()):
        if metrics.get(name) != solution.metrics.get(name):
            yield Violation("metric", f"{name} is {metrics.get(name)!r}, not {solution.metrics.get(name)!r}")
