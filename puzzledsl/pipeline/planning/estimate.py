"""Estimates of a task's time and bytes before it runs, for `pzl run --dry-run`.

FLOP are counted as in the cost model (`costs.flops`) and converted to time by this machine's speed: the speed of
finished tasks in the build directory's log, or else of a matrix product. A task that this build directory has
finished before is estimated by its previous time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from puzzledsl.checker.declarations.refines import refine_of
from puzzledsl.costs.flops import Workload, fixed_flop, sub_block_flop
from puzzledsl.ir import facts, nodes
from puzzledsl.ir.alternatives import Alternative, ParentAttention, ParentFfn
from puzzledsl.ir.evaluated import children_evaluated, children_in_full, space_evaluated
from puzzledsl.ir.layer_runs import Run, runs_to_drop
from puzzledsl.ir.tables import BldJob
from puzzledsl.pipeline import inputs, tasks
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.task import Task
from puzzledsl.plan.refinement import refinement_tokens

TRAINING = 3  # a forward and a backward pass, in forwards
HEALING = 4.0  # parent, child and Gram matrices, in forwards
CHILD_HEALED = 1.0  # a child that is healed in memory, in forwards: the parent's and what it shares with others are there
LAYERS_HEALED = 1.5  # for a score: the layer behind, and of its own what stands around the change
SECOND_TO_WARM_UP = 2.0  # to load a model
SHARE_OF_PEAK = 0.6  # of a matrix product's speed that a whole stage reaches
DECODE_COST = 2.0  # a decoded token's time over a prefilled one's arithmetic: it waits for memory
MEASURED_FORWARDS = 30.0  # a scenario's rounds and checks, in whole latencies with a few decode steps
TIMED_FORWARDS = 12.0  # an evaluation's rounds, parent and child
DECODED = 8  # steps of a timed window
BYTES_A_TOKEN = 5.0  # of text in JSON lines
OPTIMISER_COPIES = 3  # weights and two moments, float32


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of one task. `seconds` None: it needs no time worth mentioning. `scratch_bytes` are gone when it ends. `runs`: of
    consecutive layers, that a score measures: a pass through the layers behind each."""

    seconds: float
    written_bytes: int
    scratch_bytes: int = 0
    from_log: bool = False
    runs: int = 0


class Estimator:
    """Estimates for one program on this machine."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self._took = _durations(ctx.build.log)
        self._flop_per_s: float | None = None

    def of(self, task: Task) -> Estimate:
        """One task."""
        written, scratch = self._bytes(task)
        runs = len(self._runs(task.name)) if task.stage == "score" else 0
        if (took := self._took.get((task.stage, task.name))) is not None:
            return Estimate(took, written, scratch, from_log=True, runs=runs)
        flop = self._flop(task)
        warm_up = SECOND_TO_WARM_UP if flop else 0.1
        return Estimate(warm_up + (flop / self.flop_per_s if flop else 0.0), written, scratch, runs=runs)

    @property
    def flop_per_s(self) -> float:
        """Speed that a stage reaches on this machine."""
        if self._flop_per_s is None:
            program = self.ctx.program
            known: list[tuple[str, str, Callable[[Context, str], Task]]] = [
                *(("bld", name, tasks.bld) for name in program.blds),
                *(("uptrain", name, tasks.uptrain) for name in program.uptrains),
            ]
            reached = [
                self._flop(make(self.ctx, name)) / max(took - SECOND_TO_WARM_UP, 0.5)
                for stage, name, make in known
                if (took := self._took.get((stage, name)))
            ]
            self._flop_per_s = median(reached) if reached else SHARE_OF_PEAK * self._peak()
        return self._flop_per_s

    def _peak(self) -> float:
        from puzzledsl.measure.probe import matrix_product_flop_per_s
        from puzzledsl.models.placement import placement

        return matrix_product_flop_per_s(*placement(self.ctx.base))

    # ---------------------------------------------------------------- arithmetic

    def _flop(self, task: Task) -> float:
        program = self.ctx.program
        match task.stage:
            case "measure":
                shape = self._shape(task.name)
                wanted = [program.scenarios[name] for name in inputs.measured_scenarios(self.ctx)]
                return sum(MEASURED_FORWARDS * _timed(shape, scenario) for scenario in wanted)
            case "bld":
                return self._bld_flop(task.name)
            case "score":
                return self._score_flop(task.name)
            case "refine":
                return self._refine_flop(task.name)
            case "realise":
                return self._healing_flop(task.name) if self.ctx.heal else 0.0
            case "uptrain":
                declaration = program.uptrains[task.name]
                shape = self._shape(program.searches[declaration.search].space)
                return declaration.tokens * (1 + TRAINING) * _per_token(shape, head=True)
            case "eval":
                return self._eval_flop(task.name)
            case _:
                return 0.0

    def _bld_flop(self, name: str) -> float:
        """One parent forward of all tokens; pieces are initialised and refined on calibration tokens, trained on the others."""
        declaration = self.ctx.program.blds[name]
        shape, jobs = self._shape(declaration.space), inputs.jobs_of(self.ctx, name)
        tokens = declaration.tokens + declaration.calibration_tokens
        total = tokens * _per_token(shape, head=False)
        for job in jobs:
            weights = 2 * _weights(job, shape)
            both, forward = refinement_tokens(job, shape.hidden)
            total += (declaration.calibration_tokens + forward) * weights
            total += (declaration.tokens + both) * TRAINING * weights
        return total

    def _score_flop(self, name: str) -> float:
        """Every replacement runs the layers above it, half of them on average, and the head."""
        score = self.ctx.program.scores[name]
        method = score.method
        assert isinstance(method, nodes.ReplaceOne)
        shape, space = self._shape(score.space), self.ctx.program.spaces[score.space]
        count = sum(len(layer.attention) + len(layer.ffn) for layer in space.layers)
        if method.unit == "block":
            count = sum(len(layer.attention) * len(layer.ffn) for layer in space.layers)
        tokens = method.samples
        if method.tasks is not None:
            tokens = int(_size(self.ctx.base, [method.tasks]) / BYTES_A_TOKEN)
        each = _per_token(shape, head=False) / 2 + _head(shape)
        whole = method.children * tokens * _per_token(shape, head=True)
        runs = tokens * sum(
            _per_token(shape, head=False) * (1 - (first + length) / shape.layers) + _head(shape)
            for first, length in self._runs(name)
        )
        healed = self._healed_flop(name, count)
        return method.rounds * (1 + method.pairwise) * count * tokens * each + whole + runs + healed

    def _healed_flop(self, score: str, count: int) -> float:
        """Parent and child run the layer behind each replacement or run, and that is fitted."""
        declaration = self.ctx.program.scores[score]
        shape, method = self._shape(declaration.space), declaration.method
        tokens = method.healed if isinstance(method, nodes.ReplaceOne) else 0
        layer = _per_token(shape, head=False) / shape.layers
        return HEALING * LAYERS_HEALED * layer * tokens * (count + len(self._runs(score)))

    def _runs(self, score: str) -> list[Run]:
        """The runs of layers that a score measures."""
        declaration = self.ctx.program.scores[score]
        lengths = declaration.method.runs if isinstance(declaration.method, nodes.ReplaceOne) else None
        return runs_to_drop(self.ctx.program.spaces[declaration.space].layers, lengths)

    def _refine_flop(self, name: str) -> float:
        """The parent once; each child heals its tokens and is compared on the others."""
        program, points = self.ctx.program, 1
        if (frontier := program.frontiers.get(name)) is not None:
            search, points = program.searches[frontier.search], frontier.points
            refine = refine_of(frontier, search)
        else:
            search = program.searches[name]
            assert search.refine is not None
            refine = search.refine
        shape = self._shape(search.space)
        healed = refine.healed * _per_token(shape, head=False)
        compared = refine.samples * _per_token(shape, head=True)
        return healed + compared + points * refine.children * (CHILD_HEALED * healed + compared)

    def _healing_flop(self, search: str) -> float:
        """Parent and child run the tokens, and the child's last maps are fitted to them. A short text has fewer."""
        space = self.ctx.program.searches[search].space
        blds = [bld for bld in self.ctx.program.blds.values() if bld.space == space]
        tokens = max((bld.heal_tokens for bld in blds), default=0)
        return HEALING * tokens * _per_token(self._shape(space), head=False)

    def _eval_flop(self, name: str) -> float:
        """KL of every model; tasks and times of the parent and of each child in full."""
        program, declaration = self.ctx.program, self.ctx.program.evals[name]
        shape = self._shape(space_evaluated(program, name))
        models = 1 + len(children_evaluated(program, name))
        full = len(children_in_full(program, name))
        items = self._task_tokens(declaration)
        timed = [program.scenarios[n] for n in inputs.measured_scenarios(self.ctx)]
        forward = _per_token(shape, head=True)
        times = sum(TIMED_FORWARDS * _timed(shape, scenario) for scenario in timed)
        tokens = declaration.tokens * (1 + len(declaration.more_data))
        return models * tokens * forward + (1 + full) * items * forward + full * times

    def _task_tokens(self, declaration: nodes.Eval) -> float:
        total = 0.0
        for pattern in declaration.tasks:
            for path in self.ctx.base.glob(pattern):
                with path.open("rb") as file:
                    lines = [len(line) for line in file]
                kept = len(lines) if declaration.items is None else min(declaration.items, len(lines))
                total += sum(lines) / max(len(lines), 1) * kept / BYTES_A_TOKEN
        return total

    def _shape(self, space: str) -> nodes.Shape:
        return self.ctx.program.parents[self.ctx.program.spaces[space].parent].shape

    # ---------------------------------------------------------------- bytes

    def _bytes(self, task: Task) -> tuple[int, int]:
        """Written for good, and for a while. A child is taken as large as its parent: the search finds how much less it is."""
        program = self.ctx.program
        match task.stage:
            case "bld":
                declaration = program.blds[task.name]
                shape, dtype = self._shape(declaration.space), self._dtype_bytes(declaration.space)
                pieces = sum(_weights(job, shape) for job in inputs.jobs_of(self.ctx, task.name))
                return pieces * dtype, 2 * declaration.tokens * shape.hidden * dtype
            case "realise":
                space = program.searches[task.name].space
                return facts.total_params(self._shape(space)) * self._dtype_bytes(space), 0
            case "uptrain":
                space = program.searches[program.uptrains[task.name].search].space
                params = facts.total_params(self._shape(space))
                return params * self._dtype_bytes(space), params * 4 * (OPTIMISER_COPIES + 1)
            case "export":
                of = program.exports[task.name].of
                search = program.uptrains[of].search if of in program.uptrains else of
                space = program.searches[search].space
                return facts.total_params(self._shape(space)) * self._dtype_bytes(space), 0
            case _:
                return 0, 0

    def _dtype_bytes(self, space: str) -> int:
        """Bytes of a stored weight, as the parent's config.json says; 2 where it is not there."""
        source = self.ctx.program.parents[self.ctx.program.spaces[space].parent].source
        if isinstance(source, nodes.HfSource):
            try:
                config = json.loads((self.ctx.base / source.id / "config.json").read_text())
                return 4 if "32" in str(config.get("dtype") or config.get("torch_dtype")) else 2
            except (OSError, ValueError):
                pass
        return 2


def _per_token(shape: nodes.Shape, *, head: bool) -> float:
    """FLOP of one token's forward in a long prefill."""
    work = Workload(1, 1024, 1)
    layer = sum(sub_block_flop(shape, a, work)[0] for a in (ParentAttention(), ParentFfn()))
    return shape.layers * layer / work.prompt + (_head(shape) if head else 0.0)


def _head(shape: nodes.Shape) -> float:
    return float(fixed_flop(shape, Workload(1, 1, 1)))


def _timed(shape: nodes.Shape, scenario: nodes.Scenario) -> float:
    """FLOP of a prefill and a window of decode steps, the latter at what they really cost."""
    batch = max(scenario.batches, default=1)
    forward = _per_token(shape, head=False)
    return batch * forward * (scenario.prompt + DECODE_COST * DECODED)


def _weights(job: BldJob, shape: nodes.Shape) -> int:
    alternatives: list[Alternative] = [a for a in (job.attention, job.ffn) if a is not None]
    return sum(facts.params(a, shape) for a in alternatives)


def _size(base: Path, patterns: list[str]) -> int:
    return sum(path.stat().st_size for pattern in patterns for path in base.glob(pattern))


def _durations(log: Path) -> dict[tuple[str, str], float]:
    """The last finished run of each task, seconds."""
    found: dict[tuple[str, str], float] = {}
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            event = json.loads(line)
            if event["event"] == "end":
                found[event["stage"], event["name"]] = float(event["seconds"])
        except (ValueError, KeyError, TypeError):
            continue  # a torn or damaged line of a log is no line
    return found
