"""An `eval` declaration -> an Evaluation: the parent and each child, in one run and on the same data.

Guaranteed before: the program is checked; every directory of `models` is a realised child of the parent. Units run in this
process, model by model, or on the workers of a cluster: first all texts and tasks, then the times, with no two workers on one
processor and nothing beside them.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import field
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Protocol

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.base.process import cpu_name
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, Task, Teams, TeamSpec, as_sent
from puzzledsl.evaluate.bench import Bench
from puzzledsl.evaluate.compare import compare, repetition
from puzzledsl.evaluate.plan import Plan, plan_of
from puzzledsl.evaluate.units import (
    PARENT,
    SPARED,
    EvalWork,
    Found,
    Measured,
    Refused,
    Speed,
    Store,
    TimeInEngine,
    Unit,
    assembled,
    side_by_side,
    units_of,
)
from puzzledsl.ir.nodes import Hardware, Program
from puzzledsl.ir.tables import Evaluation, Ladder
from puzzledsl.measure.stopwatch import machine


class MeasureLadder(Protocol):
    """Measures files of an engine's own quantiser beside a child. It is `serving.ladder.LadderMeter`, not to be imported here."""

    def effort(self, plan: Plan) -> tuple[int, float]:
        """Return the size and the work of its units, for a progress bar; both 0 if no engine with a ladder times children."""

    def __call__(
        self, plan: Plan, work: Path, kept: Path, child: Path, usual: Mapping[str, Speed], parent: Measured
    ) -> Ladder | None:
        """Measure the ladder; None if no engine with one timed the child. `usual`: its speeds. Raises DiagnosticError."""


class EvalInputs(Record):
    """Inputs of one evaluation.

    `models` maps names to checkpoint directories; those named in `full` also get tasks and times. Relative data paths start
    at `base`; `cache` holds tokenised text. Finished units are kept in `work`, which is removed at the end, and those that
    last in `kept`, if it is given. `executor` provides the workers that measure. `engines` times models in the engines of
    `measured(engine: ...)` hardware, and `ladder` what such an engine's quantiser makes of the parent.
    """

    program: Program
    eval: str
    models: Mapping[str, Path]
    full: Set[str]
    parent_dir: Path
    base: Path
    cache: Path
    work: Path
    progress: Progress
    executor: Executor = field(default_factory=Executor)
    engines: TimeInEngine | None = None
    ladder: MeasureLadder | None = None
    kept: Path | None = None

    def plan(self) -> Plan:
        """Read and tokenise everything. Raises DiagnosticError."""
        return plan_of(self.program, self.eval, self.parent_dir, self.base, self.cache, self.progress)


class PartlyEvaluated(DiagnosticError):
    """Some units could not be measured. `evaluation` has all others."""

    def __init__(self, *diagnostics: Diagnostic, evaluation: Evaluation) -> None:
        super().__init__(*diagnostics)
        self.evaluation = evaluation


def run_eval(inputs: EvalInputs) -> Evaluation:
    """Measure the parent and the children.

    Every model gets params, checkpoint_bytes, kl, perplexity and top-1, 5 and 10 agreement; the parent and the models in
    full also answer the prompts, and get tasks and, in scenarios on a measured hardware, speed. Children are compared with the
    parent item by item and block by block. All figures but speed are the same at every run on the same machine, with any
    number of workers. Raises DiagnosticError; PartlyEvaluated at the end if answers of the harness or times cannot be had.
    """
    plan, given = inputs.plan(), {PARENT: inputs.parent_dir, **inputs.models}
    units = [
        unit
        for name, directory in given.items()
        for unit in units_of(plan, name, directory.resolve(), full=name in {PARENT, *inputs.full})
    ]
    store = Store(inputs.work, plan, inputs.parent_dir.resolve(), inputs.kept)
    found = {unit: kept for unit in units if (kept := store.read(unit)) is not None}
    refused: dict[Unit, Refused] = {}
    for unit, new in _measured(inputs, plan, units, found, refused):
        if isinstance(new, Refused):
            refused[unit] = new
        else:
            store.write(unit, new)
            found[unit] = new
    evaluation = _evaluation(inputs, plan, [unit for unit in units if unit in found], found)
    if refused:
        problems = {d.sort_key: d for each in refused.values() for d in each.diagnostics}
        raise PartlyEvaluated(*problems.values(), evaluation=evaluation)
    shutil.rmtree(inputs.work, ignore_errors=True)
    return evaluation


def _evaluation(
    inputs: EvalInputs, plan: Plan, units: Sequence[Unit], found: Mapping[Unit, Found]
) -> Evaluation:
    """Put the models' figures together, and compare children with the parent."""
    by_model = groupby(units, key=lambda unit: unit.model)
    measured = [assembled(plan, name, {unit: found[unit] for unit in own}) for name, own in by_model]
    for model in measured:
        shown = {key: figure.value for key, figure in model.figures.figures.items()}
        inputs.progress.log("evaluated", model=model.figures.model, **shown)
    parent, *children = measured
    comparisons = [
        compare(
            child.figures.model, child.samples, parent.samples, child.chances, child.figures.texts
        ).model_copy(update={"repetition": repetition(parent.answers, child.answers)})
        for child in children
    ]
    return Evaluation(
        eval=inputs.eval,
        texts=tuple(text.name for text in plan.texts),
        models=tuple(m.figures for m in measured),
        comparisons=tuple(comparisons),
        answers=side_by_side(plan, measured),
        ladder=_ladder(inputs, plan, found, parent),
    )


def _ladder(inputs: EvalInputs, plan: Plan, found: Mapping[Unit, Found], parent: Measured) -> Ladder | None:
    """Return the ladder beside the evaluated child; None if the eval asks for none, or no engine with one timed the child."""
    child = plan.declaration.of
    usual = {u.of: new.speed for u, new in found.items() if u.model == child and new.speed is not None}
    if inputs.ladder is None or not plan.declaration.ladder or not usual:
        return None
    work, kept = inputs.work, inputs.kept or inputs.work
    return inputs.ladder(plan, work, kept, inputs.models[child], usual, parent)


def _teams(inputs: EvalInputs, *, alone: bool) -> TeamSpec:
    """Return teams of one worker each; `alone`: each worker has a processor to itself, as times need."""
    sent = inputs if inputs.executor.is_local else as_sent(inputs)
    return TeamSpec(partial(WorkersBench, sent), alone=alone)


class WorkersBench:
    """A bench that prepares its own inputs in the process that measures."""

    def __init__(self, inputs: EvalInputs, member: int) -> None:
        self._inputs = inputs

    @cached_property
    def _bench(self) -> Bench:
        inputs = self._inputs
        return Bench(inputs.plan(), inputs.parent_dir.resolve(), inputs.progress, inputs.engines)

    def measure(self, unit: Unit, usual: Speed | None) -> Found | Refused:
        """Measure as `Bench` does; return Refused for a unit of SPARED kinds that cannot be measured. Raises DiagnosticError."""
        try:
            return self._bench.measure(unit, usual)
        except DiagnosticError as error:
            if unit.kind not in SPARED:
                raise
            return Refused(error.diagnostics)

    def kind(self) -> str:
        """Return the devices that times are taken on."""
        places = (timed.on for timed in self._bench.plan.timed)
        kinds = {cpu_name() if isinstance(place, Hardware) else machine(place[0]) for place in places}
        return " ".join(sorted(kinds))


def _measured(
    inputs: EvalInputs,
    plan: Plan,
    units: Sequence[Unit],
    found: Mapping[Unit, Found],
    refused: Mapping[Unit, Refused],
) -> Iterator[tuple[Unit, Found | Refused]]:
    """Measure and yield each unit not in `found`. The caller must add it to `found` or `refused` before it takes the next."""
    todo, progress, executor = [u for u in units if u not in found], inputs.progress, inputs.executor
    work = EvalWork.of(inputs.parent_dir)
    ladder = inputs.ladder if plan.declaration.ladder else None
    behind, behind_work = ladder.effort(plan) if ladder is not None else (0, 0.0)

    def begin(title: str) -> None:
        """Begin a progress bar over all units, found or not, and those of the ladder, which are measured last."""
        progress.start(title, sum(unit.size for unit in units) + behind)
        progress.advance(sum(unit.size for unit in units if unit in found), kept=True)
        progress.ready(work.units(plan, (unit for unit in units if unit not in found)) + behind_work)

    if executor.is_local:
        with executor.open(_teams(inputs, alone=False), progress) as teams:
            for name, of_model in groupby(todo, key=lambda u: u.model):
                begin(f"evaluating {name}")
                yield from _run(teams, list(of_model), units, found, refused)
        return
    begin("evaluating")
    timed = [unit for unit in todo if unit.kind == "speed"]
    rounds = [
        (False, [unit for unit in todo if unit.kind != "speed"]),
        (True, [unit for unit in timed if unit.model == PARENT]),
        (True, [unit for unit in timed if unit.model != PARENT]),
    ]
    for alone, in_rounds in groupby((r for r in rounds if r[1]), key=lambda r: r[0]):
        with executor.open(_teams(inputs, alone=alone), progress) as teams:
            for _, here in in_rounds:
                for unit, new in _run(teams, here, units, found, refused):
                    progress.advance(unit.size, work=work.units(plan, [unit]))
                    yield unit, new


def _run(
    teams: Teams,
    todo: Sequence[Unit],
    units: Sequence[Unit],
    found: Mapping[Unit, Found],
    refused: Mapping[Unit, Refused],
) -> Iterator[tuple[Unit, Found | Refused]]:
    """Measure and yield the units `todo`. A child's unit is refused untried if the parent's of the same kind and name was."""
    parents = {(unit.kind, unit.of): unit for unit in units if unit.model == PARENT}

    def usual(unit: Unit) -> Speed | None:
        is_childs = unit.kind == "speed" and unit.model != PARENT
        return found[parents[unit.kind, unit.of]].speed if is_childs else None

    hopeless = [unit for unit in todo if parents.get((unit.kind, unit.of)) in refused]
    yield from ((unit, refused[parents[unit.kind, unit.of]]) for unit in hopeless)
    tried = [unit for unit in todo if unit not in hopeless]
    for task, new in teams.run([Task.call(unit, "measure", unit, usual(unit)) for unit in tried]):
        yield task.name, new
