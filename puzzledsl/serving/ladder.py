"""The ladder of an engine: files that its own quantiser makes of the parent, measured beside a child as the child is.

Each file is made, timed in turn with the child, read back and compared with the parent on the texts of an evaluation. Quality is
that of the weights in the file, as for a child. Of the files made so far, at most two stay, those next to the child in speed;
the last to stay also answer a third of the questions of the evaluation's tasks.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import cast

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import scratch, sha256_of
from puzzledsl.base.frozen import Record
from puzzledsl.base.progress import Part, Progress
from puzzledsl.child.checkpoint.contents import ChildFiles, from_parent
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.child.definition import RecipeFailed
from puzzledsl.evaluate.bench import Bench
from puzzledsl.evaluate.compare import compare
from puzzledsl.evaluate.plan import Plan, Timed
from puzzledsl.evaluate.units import (
    ROUNDS,
    EvalWork,
    Found,
    Kind,
    Measured,
    Speed,
    Store,
    Unit,
    assembled,
    relative_speed,
)
from puzzledsl.export.engines.ask import Session, llama_library
from puzzledsl.export.gguf_recipe import Importance, write_recipe
from puzzledsl.export.verify import read_gguf
from puzzledsl.ir.measured_engines import LADDER, Rung
from puzzledsl.ir.nodes import Hardware, Shape
from puzzledsl.ir.runtimes import has_ladder
from puzzledsl.ir.tables import Ladder
from puzzledsl.measure.whole import Workload
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.serving.clock import Bed, in_turn, write_model

CLOSE = 0.1
"""A file whose time differs by less than this share from the child's is timed in twice as many turns: speed ranks the files."""

ASKED = 3
"""A file answers the first of each task's questions, one in so many: it is there for comparison, and answers take time."""
FILE_TOKENS = 1024
"""Tokens that are read in about the time in which a file is made, read back and loaded: 6 to 7 s (SmolLM2, one core, q4_0)."""


def seconds_of(speed: Speed, timed: Timed) -> float:
    """Return the seconds of a whole request: prompt and output."""
    return speed.prefill_s + timed.workload.output * speed.decode_step_s


def _asked(plan: Plan) -> Plan:
    """Return the plan with the questions of its tasks that files answer: the first, one in ASKED."""
    tasks = [(task, -(-len(task.items) // ASKED)) for task in plan.tasks]
    cut = (replace(task, items=task.items[:count], encoded=task.encoded[:count]) for task, count in tasks)
    return replace(plan, tasks=tuple(cut))


def _made_by(importance: Importance | None) -> str:
    """Return a digest of what the files depend on besides the parent: llama.cpp's build, and the importance matrix."""
    library = llama_library()
    found = hashlib.sha256(
        version("llama-cpp-py-sync").encode() if library is None else sha256_of(library).encode()
    )
    for name, values in sorted((importance or {}).items()):
        found.update(name.encode() + values.tobytes())
    return f"ladder-{found.hexdigest()[:16]}"


def _is_there(timed: Timed) -> bool:
    return isinstance(timed.on, Hardware) and has_ladder(timed.on)


class LadderMeter(Record):
    """Measures a parent's ladder beside a child. `importance` returns the parent's importance matrix; None without a text."""

    child: str
    parent_dir: Path
    importance: Callable[[], Importance | None]
    progress: Progress

    def effort(self, plan: Plan) -> tuple[int, float]:
        """Return the size and work of all files' units, with the tasks of two files; zeros if no timed engine has a ladder."""
        return self.effort_asked(_asked(plan))

    def effort_asked(self, plan: Plan) -> tuple[int, float]:
        """Return the same as `effort`, for a plan from `_asked`."""
        timed = [each for each in plan.timed if _is_there(each)]
        if not timed:
            return 0, 0.0
        efforts = [self.effort_of(plan, self.of_file(plan, rung, timed), made=True) for rung in LADDER]
        efforts += 2 * [self.effort_of(plan, self.of_tasks(plan, LADDER[0]), made=False)]
        return sum(units for units, _ in efforts), sum(work for _, work in efforts)

    def effort_of(self, plan: Plan, units: Sequence[Unit], *, made: bool) -> tuple[int, float]:
        """Return the size and the work of a file's units; `made`: with making the file, which counts as one more."""
        effort = EvalWork.of(self.parent_dir)
        file = FILE_TOKENS * (effort.body + effort.head) if made else 0
        return sum(unit.size for unit in units) + made, effort.units(plan, units) + file

    def of_file(self, plan: Plan, rung: Rung, timed: Sequence[Timed]) -> list[Unit]:
        """Return the units of a file: times first, then texts."""
        times = [self._unit(rung, "speed", each.scenario, 2 * ROUNDS) for each in timed]
        return [*times, *(self._unit(rung, "text", text.name, len(text.blocks_NT)) for text in plan.texts)]

    def of_tasks(self, plan: Plan, rung: Rung) -> list[Unit]:
        """Return the units of a file's tasks."""
        return [self._unit(rung, "task", task.name, len(task.items)) for task in plan.tasks]

    def _unit(self, rung: Rung, kind: Kind, of: str, size: int) -> Unit:
        """Return a unit with the parent's directory: a file's weights have one of their own only while they are measured."""
        return Unit(rung.name, self.parent_dir, kind, of, size)

    def __call__(
        self, plan: Plan, work: Path, kept: Path, child: Path, usual: Mapping[str, Speed], parent: Measured
    ) -> Ladder | None:
        """Measure all files; None if the child was timed in no engine with a ladder. Raises DiagnosticError.

        `usual`: the child's speeds by scenario. Times of files are this child's alone, and kept in `work`; figures on texts and
        tasks hold for every child of the parent, and are kept in `kept`.
        """
        plan = _asked(plan)
        times = hashlib.sha256(repr(sorted(usual.items())).encode()).hexdigest()[:16]  # of this very child
        timed = [each for each in plan.timed if each.scenario in usual and _is_there(each)]
        if not timed:
            return None
        bed = Bed.of(cast(Hardware, timed[0].on))
        with scratch("ladder") as folder, ExitStack() as sessions:
            file = write_model(child, bed.name, folder, bed.spec.dtype)
            child_bytes = file.stat().st_size
            importance = self.importance()
            store = Store(work / times, plan, self.parent_dir, kept / _made_by(importance))
            found = _Climb(self, plan, store, file, usual, importance, sessions).found(timed)
        measured = [assembled(plan, rung.name, units) for rung, units in found.items()]
        return Ladder(
            engine=bed.engine.title,
            child=self.child,
            child_bytes=child_bytes,
            models=tuple(each.figures for each in measured),
            comparisons=tuple(
                compare(
                    *(each.figures.model, each.samples),
                    {name: parent.samples[name][: len(values)] for name, values in each.samples.items()},
                    *(each.chances, each.figures.texts),
                )
                for each in measured
            ),
        )


class _Climb(Record):
    meter: LadderMeter
    plan: Plan
    store: Store
    child_file: Path
    usual: Mapping[str, Speed]
    importance: Importance | None
    sessions: ExitStack
    _loaded: dict[Workload, Session] = field(default_factory=dict)

    def found(self, timed: Sequence[Timed]) -> dict[Rung, dict[Unit, Found]]:
        """Return the measured units of every file that llama.cpp can make; without importance, of those that need none."""
        found = {}
        size, work = self.meter.effort_asked(self.plan)
        self.meter.progress.start("files of llama.cpp", size)
        self.meter.progress.ready(work)
        for rung in LADDER:
            if not rung.weighed or self.importance is not None:
                try:
                    found[rung] = self._measured(rung, timed)
                except DiagnosticError as error:
                    if not all(problem.kind == RecipeFailed for problem in error.diagnostics):
                        raise
            nearest = self._nearest(found, timed)  # their files may be read once more
            for other in {*LADDER} - {*nearest}:
                self._path(other).unlink(missing_ok=True)
        for rung in self._nearest(found, timed):
            found[rung] |= self._answered(rung)
        return found

    def _measured(self, rung: Rung, timed: Sequence[Timed]) -> dict[Unit, Found]:
        """Return a file's times, and its figures on texts."""
        units = self.meter.of_file(self.plan, rung, timed)
        found, part = self._begun(rung, units, made=True)
        if len(found) < len(units):
            file = self._file(rung)
            part.advance(work=self.meter.effort_of(self.plan, [], made=True)[1])
            for unit, each in zip(units, timed, strict=False):
                if unit not in found:
                    found[unit] = self._keep(unit, Found(speed=self._speed(rung, file, each)))
                    part.advance(unit.size, work=self.meter.effort_of(self.plan, [unit], made=False)[1])
            with self._read_back(file) as directory:
                for unit in units[len(timed) :]:
                    if unit not in found:
                        new = self._bench.measure(replace(unit, directory=directory))
                        sized = new.model_copy(update={"stored_bytes": file.stat().st_size})
                        found[unit] = self._keep(unit, sized)
        part.end()
        return {unit: found[unit] for unit in units}

    def _answered(self, rung: Rung) -> dict[Unit, Found]:
        """Return a file's answers to the tasks."""
        units = self.meter.of_tasks(self.plan, rung)
        found, part = self._begun(rung, units, made=False)
        if len(found) < len(units):
            with self._read_back(self._file(rung)) as directory:
                for unit in units:
                    if unit not in found:
                        new = self._bench.measure(replace(unit, directory=directory))
                        found[unit] = self._keep(unit, new)
        part.end()
        return {unit: found[unit] for unit in units}

    def _begun(self, rung: Rung, units: Sequence[Unit], *, made: bool) -> tuple[dict[Unit, Found], Part]:
        """Return the units of a file that an earlier run has measured, and the part of the bar for all of them."""
        read = ((unit, self.store.read(unit)) for unit in units)
        found = {unit: kept for unit, kept in read if kept is not None}
        size, work = self.meter.effort_of(self.plan, units, made=made)
        part = Part(self.meter.progress, size, work, {"file": rung.name})
        part.ready(work)
        is_done = len(found) == len(units)
        known, known_work = self.meter.effort_of(self.plan, [*found], made=made and is_done)
        part.advance(known, kept=True, work=known_work)
        self._bench.tell(part)
        return found, part

    def _nearest(self, found: Mapping[Rung, Mapping[Unit, Found]], timed: Sequence[Timed]) -> list[Rung]:
        """Return, if any, the slowest file that is as fast as the child, and the fastest of the others, by the first scenario."""
        name = timed[0].scenario
        own = seconds_of(self.usual[name], timed[0])
        by_time = {
            rung: seconds_of(new.speed, timed[0])
            for rung, units in found.items()
            for unit, new in units.items()
            if unit.of == name and new.speed is not None
        }
        faster = [rung for rung, time in by_time.items() if time <= own]
        slower = [rung for rung in by_time if rung not in faster]
        return [*sorted(faster, key=lambda r: -by_time[r])[:1], *sorted(slower, key=by_time.__getitem__)[:1]]

    def _path(self, rung: Rung) -> Path:
        return self.child_file.with_name(f"parent-{LADDER.index(rung)}.gguf")

    def _file(self, rung: Rung) -> Path:
        """Return the file, beside the child's; it is made if it is not there."""
        path = self._path(rung)
        if not path.exists():
            write_recipe(
                self._parent,
                self.meter.parent_dir,
                path,
                rung.recipe,
                name=rung.name,
                importance=self.importance if rung.weighed else None,
                head=rung.head,
                unquantised=self.child_file.with_name("unquantised.gguf"),
            )
        return path

    @contextmanager
    def _read_back(self, file: Path) -> Iterator[Path]:
        with scratch("ladder") as folder:
            directory = folder / "weights"
            write_checkpoint(read_gguf(file, self._parent).rounded, self.meter.parent_dir, directory, "")
            yield directory

    def _speed(self, rung: Rung, file: Path, timed: Timed) -> Speed:
        """Return the file's speed: the child's, times the ratio measured while the two alternated."""
        assert isinstance(timed.on, Hardware)
        bed = Bed.of(timed.on)
        shape = shape_of(load_config(self.meter.parent_dir))
        own = self._own(bed, timed.workload, shape)
        with bed.load(file, timed.workload, shape, f"`{rung.name}`") as other:
            usual = self.usual[timed.scenario]
            of_child, of_file = in_turn([own, other], timed.workload, ROUNDS)
            found = relative_speed(usual, of_child, of_file)
            if abs(seconds_of(found, timed) / seconds_of(usual, timed) - 1) < CLOSE:
                more = in_turn([own, other], timed.workload, ROUNDS)
                found = relative_speed(usual, of_child + more[0], of_file + more[1])
        return found

    def _own(self, bed: Bed, workload: Workload, shape: Shape) -> Session:
        """Return the child, loaded for a workload; it stays loaded while files of the same workload are timed beside it."""
        if workload not in self._loaded:
            self._loaded.clear()
            self.sessions.close()
            load = bed.load(self.child_file, workload, shape, f"`{self.meter.child}`")
            self._loaded[workload] = self.sessions.enter_context(load)
        return self._loaded[workload]

    def _keep(self, unit: Unit, found: Found) -> Found:
        self.store.write(unit, found)
        return found

    @cached_property
    def _parent(self) -> ChildFiles:
        return from_parent(self.meter.parent_dir)

    @cached_property
    def _bench(self) -> Bench:
        return Bench(self.plan, self.meter.parent_dir, self.meter.progress)
