"""Random and evolved children of a space beside the child of a search: how fast a child can be that is as good.

Half of a pool is drawn, half evolved from it by mutation and crossing, for speed by the cost table under a bound on the summed
score. Their KL divergence is measured once, by the judge of the search, from the fastest by the cost table on, until ten are as
good as the search requires. These are timed in the engine beside the search's own child.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from puzzledsl.base.files import scratch, write_text
from puzzledsl.cli import loading
from puzzledsl.ir.nodes import Space
from puzzledsl.ir.references import judged_by
from puzzledsl.ir.tables import (
    Assignment,
    EndsAssignment,
    LayerAssignment,
    Solution,
    ends_of_child,
    layers_of_child,
)
from puzzledsl.measure.whole import Workload
from puzzledsl.pieces.store.library import Library
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.inputs import best_solution, costs_of, pieces_of, refinement_of, scores_of
from puzzledsl.refining.candidates import slack
from puzzledsl.refining.judges import Judges, RefineInputs
from puzzledsl.refining.surrogate import Surrogate
from puzzledsl.serving.clock import ServingClock

TIMED, TURNS = 10, 10
FIRST = "s0"
"""The search whose judge measures the pool."""
SCREENED, WORSE = 1024, 1.5
"""Tokens on which a child is measured first, and the multiple of the loss allowed beyond which it is not measured on all."""
LOOSER = 1.2
"""Summed scores that evolved children may have, as a multiple of the search's own child."""
GENERATIONS, SURVIVORS = 60, 20

Child = tuple[Assignment, ...]


@dataclass(frozen=True)
class Pool:
    """A pool of one parent, whose measured children are kept in the file `kept`."""

    program: Path
    build: Path
    search: str
    kept: Path

    def compared(self, children: int) -> dict[str, Any]:
        """Return how many of the pool qualify, and the speeds of our child and of the fastest of the others, tokens a second."""
        own = self._inputs(self.search)
        ours = self._refined(self.search)
        required = [
            (f"{judged.judge}.{judged.figure}", judged, float(own.program.judges[judged.judge].sure))
            for judged in judged_by(own.program.searches[self.search])
        ]
        judged_alike = all("taste" in name for name in _judges(own))
        with scratch("pool") as work:
            judges, screen = (Judges(self._inputs(FIRST, work, tokens)) for tokens in (None, SCREENED))
            our_kl = judges.figures(ours, "ours")["taste.kl"].value
            most = WORSE * (float(required[0][1].bound) if judged_alike else our_kl)
            good, measured = list[Solution](), 0
            drawn = map(self._solution, self.children(children))
            for solution in sorted(drawn, key=self._speed, reverse=True):
                if len(good) == TIMED:
                    break
                measured += 1
                name = f"{measured} of {children}"
                if screen.figures(solution, name)["taste.kl"].value > most:
                    continue
                figures = judges.figures(solution, name)
                met = (
                    all(slack(judged, figures[name], sure) >= 0 for name, judged, sure in required)
                    if judged_alike
                    else figures["taste.kl"].value <= our_kl
                )
                good += [solution] if met and solution.layers != ours.layers else []
                print(f"\r{self.search}: {measured} of {children}, {len(good)} qualify", end="", flush=True)
            print()
        _, *others = self._timed([ours, *good])
        fastest = good[others.index(max(others))]
        own_speed, best = self._timed(
            [ours, fastest]
        )  # anew: the first time, the fastest of ten was also the luckiest
        return {
            "children": children,
            "measured": measured,
            "qualified": len(good),
            "ours": own_speed,
            "fastest": best,
            "slower": best / own_speed - 1,
        }

    def children(self, count: int) -> list[Child]:
        """Return the children of the pool, drawn once."""
        if not self.kept.exists():
            dice, found = random.Random(0), dict[Child, None]()
            while len(found) < count // 2:
                found[self._drawn(dice)] = None
            for search in self._ctx.program.searches:
                most = LOOSER * self._loss(self._refined(search).layers)
                share = (count - count // 2) // len(self._ctx.program.searches)
                for child in self._evolved(dice, list(found)[: count // 2], most, share, found):
                    found[child] = None
            while len(found) < count:
                found[self._drawn(dice)] = None
            write_text(self.kept, json.dumps([[part.model_dump() for part in child] for child in found]))
        return [_child(parts) for parts in json.loads(self.kept.read_text("utf-8"))]

    def _drawn(self, dice: random.Random) -> Child:
        """Return a child with a random share of layers at each type, and a few dropped FFNs."""
        keep, drop = dice.random(), dice.random() ** 3 / 4
        layers: list[Assignment] = []
        for layer in self._space.layers:
            attention, ffn = ([each.name for each in part] for part in (layer.attention, layer.ffn))
            dropped = "noop" in ffn and dice.random() < drop
            others = [name for name in ffn if name != "noop"]
            layers.append(
                LayerAssignment(
                    attention=attention[0] if dice.random() < keep else dice.choice(attention),
                    ffn="noop" if dropped else others[0] if dice.random() < keep else dice.choice(others),
                )
            )
        return (*layers, *self._ends(dice))

    def _ends(self, dice: random.Random) -> Sequence[Assignment]:
        if self._space.ends is None:
            return ()
        embedding, head = dice.choice(list(self._space.ends.by_name())).split("/")
        return (EndsAssignment(embedding=embedding, head=head),)

    def _evolved(
        self, dice: random.Random, first: list[Child], most: float, count: int, known: dict[Child, None]
    ) -> list[Child]:
        """Return the fastest distinct children by the cost table whose summed score is at most `most`."""

        def rank(child: Child) -> tuple[float, float]:
            return max(0.0, self._loss(child) - most), -self._speed(self._solution(child))

        population = sorted(first, key=rank)[:SURVIVORS]
        seen = {child: rank(child) for child in population}
        for _ in range(GENERATIONS):
            for _ in range(SURVIVORS):
                one, other, fresh = *dice.sample(population, 2), self._drawn(dice)
                new = tuple(
                    dice.choices((a, b, c), (48, 48, 4))[0] for a, b, c in zip(one, other, fresh, strict=True)
                )
                seen.setdefault(new, rank(new))
            population = sorted(seen, key=seen.__getitem__)[:SURVIVORS]
        return [child for child in sorted(seen, key=seen.__getitem__) if child not in known][:count]

    def _refined(self, search: str) -> Solution:
        found = refinement_of(self._ctx, search)
        assert found is not None, "`pzl run` refined it"
        return found.solution

    def _loss(self, child: Child) -> float:
        return self._surrogate.predict(child)[0]

    def _speed(self, solution: Solution) -> float:
        return solution.metrics["chat.throughput"]

    def _solution(self, child: Child) -> Solution:
        from puzzledsl.search.answer import solution_of

        return solution_of(self._candidates.tables, child, dict(self._refined(FIRST).batches))

    def _timed(self, solutions: Sequence[Solution]) -> list[float]:
        """Return the measured speed of each child, tokens a second: the parent's, times the ratio of both in turn."""
        program = self._ctx.program
        scenario = program.scenarios["chat"]
        workload = Workload.of(scenario, 1)
        clock = ServingClock(
            program, self._space.name, self._inputs(self.search).parent_dir, scenario.hardware
        )
        checks = []
        try:
            for number, solution in enumerate(solutions):
                layers = layers_of_child(solution.layers)
                arrangement: Any = {
                    "attention": tuple(layer.attention for layer in layers),
                    "ffn": tuple(layer.ffn for layer in layers),
                }
                if self._space.ends is not None:
                    arrangement["ends"] = (ends_of_child(solution.layers).name,)
                checks.append(clock.timed(arrangement, workload, number, TURNS))
        finally:
            clock.close()
        usual = min(_seconds(workload, each.parent_prefill_s, each.parent_decode_s) for each in checks)
        ratios = [
            _seconds(workload, each.parent_prefill_s, each.parent_decode_s)
            / _seconds(workload, each.child_prefill_s, each.child_decode_s)
            for each in checks
        ]
        return [workload.output / usual * ratio for ratio in ratios]

    @cached_property
    def _ctx(self) -> Any:
        return loading.context(self.program, None, self.build)

    @property
    def _space(self) -> Space:
        return self._ctx.program.spaces["small"]

    @cached_property
    def _candidates(self) -> Any:
        return self._inputs(FIRST).candidates()

    @cached_property
    def _surrogate(self) -> Surrogate:
        return Surrogate(self._candidates.table, self._candidates.tables.dropped())

    def _inputs(self, search: str, work: Path = Path(), tokens: int | None = None) -> RefineInputs:
        """Return what children are measured with, the texts of judges cut to so many tokens."""
        ctx = self._ctx
        program = ctx.program
        if tokens is not None:
            judges = {
                name: judge.model_copy(update={"tokens": tokens}) for name, judge in program.judges.items()
            }
            program = program.model_copy(update={"judges": judges})
        best_solution(ctx, search)
        blds = inputs.blds_of(ctx.program, "small")
        return RefineInputs(
            program,
            search,
            ctx.parent_directory("small", "refine"),
            ctx.base,
            Library(ctx.build.library),
            tuple(job for bld in blds for job in pieces_of(ctx, bld)),
            work,
            ctx.progress,
            costs=costs_of(ctx, "small"),
            scores=scores_of(ctx, search),
        )


def _judges(inputs: RefineInputs) -> list[str]:
    from puzzledsl.ir.references import judged_by

    return [judged.judge for judged in judged_by(inputs.program.searches[inputs.name])]


def _child(parts: list[dict[str, str]]) -> Child:
    return tuple(EndsAssignment(**part) if "head" in part else LayerAssignment(**part) for part in parts)


def _seconds(workload: Workload, prefill_s: float, step_s: float) -> float:
    return prefill_s + workload.output * step_s
