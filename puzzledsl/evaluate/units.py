"""Units of an evaluation: a text, a task, a scenario or the like of one model, measured alone and kept as soon as it is done.

Parent and child alternate while they are timed, so that both meet the same machine load. A child's time is the parent's, times
the ratio measured meanwhile, so that children timed at different moments can be compared.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import sha256_of, write_sealed
from puzzledsl.base.frozen import Frozen, Record
from puzzledsl.base.process import cpu_name, usable_cores
from puzzledsl.costs.flops import met_weights
from puzzledsl.evaluate.choices import Answers, Row, accuracy_figures, shared_row, together
from puzzledsl.evaluate.compare import PERPLEXITY
from puzzledsl.evaluate.divergence import BlockFigures, cross_entropies, divergence_figures
from puzzledsl.evaluate.plan import Plan
from puzzledsl.evaluate.prompts import ANSWER_TOKENS
from puzzledsl.ir.nodes import Hardware, Shape
from puzzledsl.ir.tables import Answer, AnsweredPrompt, Figure, ModelFigures
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.measure.stopwatch import spread
from puzzledsl.measure.whole import Samples, WholeTimer, Workload, step_work, timed_work
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config

METHOD = "5"  # raise it when a figure's meaning changes, so that unfinished work is not continued
PARENT = "parent"
Kind = Literal["text", "task", "harness", "answers", "speed"]
SPARED = ("harness", "speed")
"""Kinds of units that an evaluation does without if they cannot be measured: data sets that are not there, models too large."""

LASTING = ("text", "task", "answers")
"""Kinds of units that come out the same at every run on a machine, so that later evaluations take them as they are."""


class Unit(Record):
    """A part of the evaluation of the model in `directory`. `of`: name of the text, task or scenario; empty for other units."""

    model: str
    directory: Path
    kind: Kind
    of: str
    size: int
    """Blocks, items, prompts or rounds, as progress counts them."""


class Found(Frozen):
    """Figures of a unit: by block of a text, by item of tasks (`chances`: what guessing gives), by prompt, or a speed."""

    params: int = 0
    stored_bytes: int = 0  # of a file; 0: those of the directory
    blocks: tuple[BlockFigures, ...] = ()
    right: dict[str, tuple[float, ...]] = {}
    chances: dict[str, tuple[float, ...]] = {}
    answers: tuple[Answer, ...] = ()
    speed: Speed | None = None


class EvalWork(Record):
    """Work of an evaluation, in weights times tokens: `body` weights of all layers, `head` more for a token with logits."""

    shape: Shape
    body: int
    head: int

    @classmethod
    def of(cls, parent_dir: Path) -> Self:
        """Count the parent's weights; a child counts as much."""
        shape = shape_of(load_config(parent_dir))
        layers, head = met_weights(shape)
        return cls(shape, sum(layers), head)

    def units(self, plan: Plan, units: Iterable[Unit]) -> float:
        """Return the work of units."""
        return sum(self._unit(plan, unit) for unit in units)

    def block(self, tokens: int) -> int:
        """Return the work of comparing a block with the parent: the logits of both."""
        return 2 * tokens * self.head

    def rows(self, rows: Iterable[Row]) -> int:
        """Return the work of rows of items."""
        return sum(self.body * len(row.ids) + self.head * len(row.targets) for row in rows)

    def answer(self) -> int:
        """Return the work of an answer to a prompt."""
        return ANSWER_TOKENS * step_work(self.shape, 1)

    def round(self, workload: Workload, models: int) -> int:
        """Return the work of timing so many models once each."""
        return models * timed_work(self.shape, workload)

    def _unit(self, plan: Plan, unit: Unit) -> int:
        match unit.kind:
            case "text":
                (text,) = (each for each in plan.texts if each.name == unit.of)
                return self.block(text.blocks_NT.numel()) + text.blocks_NT.numel() * self.body
            case "task":
                (task,) = (each for each in plan.tasks if each.name == unit.of)
                return self.rows(map(shared_row, task.encoded))
            case "answers":
                return unit.size * self.answer()
            case "speed":
                (timed,) = (each for each in plan.timed if each.scenario == unit.of)
                return unit.size * self.round(timed.workload, 1 if unit.model == PARENT else 2)
            case "harness":
                return 0


def units_of(plan: Plan, model: str, directory: Path, *, full: bool) -> list[Unit]:
    """Return the units of one model: all texts; with `full` also tasks, the harness, answers to prompts, and times."""
    found = [Unit(model, directory, "text", text.name, len(text.blocks_NT)) for text in plan.texts]
    if full:
        found += [Unit(model, directory, "task", task.name, len(task.items)) for task in plan.tasks]
        if plan.harness is not None:
            found.append(Unit(model, directory, "harness", "", 0))
        if plan.prompts:
            found.append(Unit(model, directory, "answers", "", len(plan.prompts)))
        found += [Unit(model, directory, "speed", timed.scenario, ROUNDS + 1) for timed in plan.timed]
    return found


class Refused(Record):
    """A unit that could not be measured, with the mistakes that are the reason."""

    diagnostics: tuple[Diagnostic, ...]


class Store:
    """Finished units, by a digest of everything that they depend on: those of LASTING kinds in `kept`, others in `folder`."""

    def __init__(self, folder: Path, plan: Plan, parent_dir: Path, kept: Path | None = None) -> None:
        self._folder, self._kept = folder, kept or folder
        self._plan, self._parent_dir = plan, parent_dir
        self._hashes: dict[Path, str] = {}

    def read(self, unit: Unit) -> Found | None:
        """Return a finished unit; None if it is not finished, or its file is damaged."""
        return Found.of_sealed(self._path(unit))

    def write(self, unit: Unit, found: Found) -> None:
        """Keep a finished unit."""
        write_sealed(self._path(unit), found.canonical_json())

    def _path(self, unit: Unit) -> Path:
        digest = hashlib.sha256()
        for part in self._parts(unit):
            digest.update(part if isinstance(part, bytes) else f"{part}\n".encode())
        folder = self._kept if unit.kind in LASTING else self._folder
        return folder / f"{unit.model}-{digest.hexdigest()[:16]}.json"

    def _parts(self, unit: Unit) -> Iterator[str | bytes]:
        plan = self._plan
        yield from (METHOD, unit.model, unit.kind, unit.of)
        yield from (self._hash(unit.directory), self._hash(self._parent_dir))
        match unit.kind:
            case "text":
                (text,) = (text for text in plan.texts if text.name == unit.of)
                yield from MEASURES
                yield text.blocks_NT.numpy().tobytes()
                if text.learned_NT is not None:
                    yield text.learned_NT.numpy().tobytes()
            case "task":
                yield from (repr(task) for task in plan.tasks if task.name == unit.of)
                yield str(plan.declaration.dtype)
            case "harness":
                yield from (repr(plan.harness), str(plan.declaration.dtype))
            case "answers":
                yield repr([prompt.ids for prompt in plan.prompts])
            case "speed":
                yield repr((plan.timed, cpu_name(), usable_cores()))

    def _hash(self, directory: Path) -> str:
        """Return the digests of a checkpoint's weights and config."""
        if directory not in self._hashes:
            files = [*directory.glob("*.safetensors"), *directory.glob("config.json")]
            self._hashes[directory] = " ".join(sha256_of(path) for path in sorted(files))
        return self._hashes[directory]


class Measured(Record):
    """A model's figures and answers; for comparisons `samples`, values of each item or block, and `chances` to guess items."""

    figures: ModelFigures
    samples: Mapping[str, tuple[float, ...]]
    chances: Mapping[str, tuple[float, ...]]
    answers: tuple[Answer, ...] = ()


def assembled(plan: Plan, name: str, found: Mapping[Unit, Found]) -> Measured:
    """Put the units of one model together, in the order of the plan."""
    texts = {unit.of: new for unit, new in found.items() if unit.kind == "text"}
    texts_figures = {text: divergence_figures(new.blocks) for text, new in texts.items()}
    first, (directory,) = plan.texts[0].name, {unit.directory for unit in found}
    answered = together(Answers(new.right, new.chances) for new in found.values())
    stored = texts[first].stored_bytes or sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    figures = {
        "params": Figure(value=texts[first].params),
        "checkpoint_bytes": Figure(value=stored, unit="bytes"),
        **texts_figures[first],
        **accuracy_figures(answered.right),
    }
    speeds = {unit.of: new.speed for unit, new in found.items() if new.speed is not None}
    for timed in plan.timed:
        if timed.scenario in speeds:
            figures |= speed_figures(timed.scenario, speeds[timed.scenario], timed.workload)
    return Measured(
        figures=ModelFigures(model=name, figures=figures, texts=texts_figures),
        samples={PERPLEXITY: cross_entropies(texts[first].blocks), **answered.right},
        chances=answered.chances,
        answers=next((new.answers for new in found.values() if new.answers), ()),
    )


def side_by_side(plan: Plan, models: Sequence[Measured]) -> tuple[AnsweredPrompt, ...]:
    """Return each prompt with the answers of the models that were asked; nothing if the parent was not."""
    asked = {model.figures.model: model.answers for model in models if model.answers}
    if PARENT not in asked:
        return ()
    return tuple(
        AnsweredPrompt(
            prompt=prompt.text,
            source=prompt.source,
            continuation=prompt.continuation,
            answers={name: answers[number] for name, answers in asked.items()},
        )
        for number, prompt in enumerate(plan.prompts)
    )


ROUNDS = 5


class Speed(Frozen):
    """Seconds of one prefill and of one decode step in one scenario, with relative standard errors."""

    prefill_s: float
    decode_step_s: float
    prefill_error: float
    decode_error: float


TimeInEngine = Callable[[Hardware, Workload, Sequence[Path], int], Sequence[Samples]]
"""(hardware, workload, directories, turns) -> times of each directory's model in that engine, in turn. Raises DiagnosticError."""


def timed_in_turn(
    models: Iterable[PreTrainedModel], workload: Workload, advance: Callable[[int], None]
) -> list[Samples]:
    """Time the forwards of models in this process, in turn; the first round warms them up."""
    timers = [WholeTimer(model, workload) for model in models]
    for turn in range(ROUNDS + 1):
        for timer in timers:
            timer.round(keep=turn > 0)
        advance(1)
    return [timer.samples for timer in timers]


def speed_of(
    prefill: Sequence[float], decode: Sequence[float], prefill_s: float = 1, step_s: float = 1
) -> Speed:
    """Return the speed from medians of `prefill` and `decode`: seconds, or ratios to `prefill_s` and `step_s` seconds."""
    once, step = statistics.median(prefill), statistics.median(decode)
    return Speed(
        prefill_s=prefill_s * once,
        decode_step_s=step_s * step,
        prefill_error=spread(prefill) / once,
        decode_error=spread(decode) / step,
    )


def relative_speed(usual: Speed, parents: Samples, children: Samples) -> Speed:
    """Return a child's speed: its parent's `usual` one, times the ratios of what was measured in turn."""
    prefill = [c / p for c, p in zip(children.prefill, parents.prefill, strict=True)]
    decode = [c / p for c, p in zip(children.decode, parents.decode, strict=True)]
    return speed_of(prefill, decode, usual.prefill_s, usual.decode_step_s)


def speed_figures(scenario: str, speed: Speed, workload: Workload) -> dict[str, Figure]:
    """Return `SCENARIO.prefill_tokens_per_s`, `.decode_tokens_per_s`, `.latency_s` and `.throughput` (of output tokens)."""
    prefill, step = speed.prefill_s, speed.decode_step_s
    latency = prefill + workload.output * step
    parts = prefill * speed.prefill_error, workload.output * step * speed.decode_error
    latency_error = (parts[0] ** 2 + parts[1] ** 2) ** 0.5 / latency
    values = {
        "prefill_tokens_per_s": (workload.batch * workload.prompt / prefill, speed.prefill_error, "tok/s"),
        "decode_tokens_per_s": (workload.batch / step, speed.decode_error, "tok/s"),
        "latency_s": (latency, latency_error, "s"),
        "throughput": (workload.batch * workload.output / latency, latency_error, "tok/s"),
    }
    return {
        f"{scenario}.{name}": Figure(value=value, stderr=value * error, unit=unit)
        for name, (value, error, unit) in values.items()
    }
