"""Base class of the pipeline's tasks: all that a run, `pzl status`, dry runs and `pzl plan` ask of one."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import matching
from puzzledsl.changes.compare import Pieces
from puzzledsl.costs.flops import Workload, fixed_flop, sub_block_flop
from puzzledsl.ir import facts, nodes
from puzzledsl.ir.references import OfASpace, space_of, with_written
from puzzledsl.ir.tables import BldJob
from puzzledsl.language.kinds import KINDS
from puzzledsl.pipeline.context import Context
from puzzledsl.plan.flop import widest
from puzzledsl.plan.memory.stage_plan import Device, StagePlan

Key = tuple[str, str]
"""Stage and name of a task."""
Declared = TypeVar("Declared", bound=OfASpace)
WORDS = {
    "child": "the child",
    "costs": "the costs",
    "data": "the text",
    "healing": "how children are healed",
    "layers": "the solution",
    "parent": "the parent's weights",
    "pieces": "the pieces",
    "scenarios": "the scenarios",
    "scores": "the scores",
    "tasks": "the tasks' items",
    "unfinished": "a part that failed",
}
"""Names of inputs in stamps that several tasks have, in words."""


@dataclass(frozen=True, slots=True)
class Work:
    """Estimate of one task: arithmetic, memory traffic, bytes written, and bytes of temporary files.

    `flop` are those of matrix products. `moved_bytes`: weights that are read for one token at a time. `layer_calls`: forward
    passes of single layers, each with an overhead. `runs` counts the runs of consecutive layers that a score measures.
    """

    flop: float = 0.0
    written_bytes: int = 0
    scratch_bytes: int = 0
    runs: int = 0
    moved_bytes: float = 0.0
    layer_calls: float = 0.0

    def __add__(self, other: Work) -> Work:
        """Return the work of both."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Work(*(one + more for one, more in pairs))

    def __mul__(self, count: float) -> Work:
        """Return the arithmetic and the traffic of so many repetitions; bytes on the disk stay."""
        repeated = {name: getattr(self, name) * count for name in ("flop", "moved_bytes", "layer_calls")}
        return replace(self, **repeated)


@dataclass(frozen=True, slots=True)
class Touched:
    """Declarations that differ between two programs, or refer to one that does, directly or not.

    `resolved` leaves out searches and frontiers that only measure other children than before: these keep their
    solutions. `pieces` maps each BLD with known jobs to its pieces.
    """

    names: Collection[str]
    resolved: Collection[str]
    pieces: Mapping[str, Pieces]


def only_text(program: nodes.Program) -> str | None:
    """Return the data set of a program that has only one."""
    return next(iter(program.data)) if len(program.data) == 1 else None


@dataclass(frozen=True, eq=False)
class Task(ABC):
    """One stage of one declaration. Each subclass is a file in `pipeline/tasks/`.

    Class attributes describe the stage:
        stage: Its name, as in `pzl run --until STAGE`.
        after: The stage before it in a run; empty for the first.
        kind: What messages call its declarations.
        words: Names of its other inputs in stamps, in words.
        of_texts: Makes texts, before anything reads them.
        by_space: Done for the listed spaces, and again for the spaces that their solutions narrow.
        reads_text: Reads text, with the parent's tokenizer.
        sets_pace: Its duration measures the machine's speed for estimates.
    """

    ctx: Context
    name: str = ""

    stage: ClassVar[str]
    after: ClassVar[str]
    kind: ClassVar[str]
    words: ClassVar[Mapping[str, str]] = {}
    of_texts: ClassVar[bool] = False
    by_space: ClassVar[bool] = False
    reads_text: ClassVar[bool] = False
    sets_pace: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, object]:
        """Return the declarations that have this stage, by name."""

    @classmethod
    def rests_on(cls, program: nodes.Program, name: str) -> Iterable[str]:
        """Return the declarations whose change makes the task run again; none where only earlier outputs decide."""
        return (name,)

    @classmethod
    def runs_again(cls, program: nodes.Program, name: str, touched: Touched) -> bool:
        """Return True if a task that was finished runs again after a change of the program."""
        names = touched.resolved if cls.by_space else touched.names
        return any(declaration in names for declaration in cls.rests_on(program, name))

    @property
    def program(self) -> nodes.Program:
        """The program, with the spaces narrowed whose searches are solved."""
        return self.ctx.program

    @property
    def key(self) -> Key:
        """Stage and name."""
        return self.stage, self.name

    @property
    def title(self) -> str:
        """`score kl`."""
        return f"{self.stage} {self.name}".strip()

    @property
    def space(self) -> str:
        """The space that the task belongs to; empty if it belongs to none."""
        return ""

    @abstractmethod
    def inputs(self) -> dict[str, str]:
        """Return the digests of all that the outputs depend on. Raises DiagnosticError if an earlier task is not finished."""

    def needs(self) -> tuple[Key, ...]:
        """Return the tasks whose outputs this one reads. Scores that are read from tables are no tasks."""
        return ()

    def requires(self) -> tuple[Key, ...]:
        """Return those of `needs` without which it cannot run: all of them, unless a task does with what there is."""
        return self.needs()

    def follows(self, undone: Sequence[Key]) -> tuple[Key, ...]:
        """Return those of the unfinished tasks that must be done first."""
        return tuple(key for key in (*self.needs(), *self.writers()) if key in undone)

    def writers(self) -> tuple[Key, ...]:
        """Return the tasks that make the texts it reads."""
        texts = dict.fromkeys(name or only_text(self.program) for name in self.texts())
        read = [self.program.data[name] for name in texts if name in self.program.data]
        return tuple(dict.fromkeys(("sample", name) for data in read for name in with_written(data)))

    def texts(self) -> Iterable[str | None]:
        """Return the data sets that the task reads."""
        return ()

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        """Return the data sets of which the task reads a known number of tokens: each with tokens and tokens a block."""
        return ()

    def items(self) -> Iterable[tuple[str, nodes.Where]]:
        """Return the files of tasks' items that the task reads, with the place that names each."""
        return ()

    def lacks(self) -> Iterable[Diagnostic]:
        """Return what it needs besides texts and items and is not there: packages, other files."""
        return ()

    def exists(self) -> bool:
        """Return False if there is nothing to make, for example the child of an infeasible search."""
        return True

    def obstacle(self) -> Diagnostic | None:
        """Return the reason why the task cannot run yet."""
        return None

    def work(self) -> Work:
        """Return the estimate of its work; nothing where it takes no time worth mentioning."""
        return Work()

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        """Return the memory plans of its parts on a device; none where it holds no model. `disk_bytes`: free on the disk."""
        return []

    @abstractmethod
    def run(self) -> list[Path]:
        """Do it. Return the paths written; a directory stands for all below it."""

    def damaged(self) -> tuple[str, ...]:
        """Return the outputs that are damaged although the stamp matches. Raises DiagnosticError if they are unreadable."""
        return ()

    def remark(self) -> str:
        """Return the outcome in a few words, after a comma; empty where there is nothing to say."""
        return ""

    def dead_end(self) -> Diagnostic | None:
        """Return the reason why no later task can be done."""
        return None


class DeclaredTask(Task, Generic[Declared]):
    """One stage of one declaration of a kind."""

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, Declared]:
        """Return the declarations of the kind, by name."""
        found: Mapping[str, Declared] = getattr(program, KINDS[cls.kind].plural)
        return found

    @property
    def declaration(self) -> Declared:
        """The declaration."""
        return self.declared(self.program)[self.name]

    @property
    def space(self) -> str:
        """The space of the declaration."""
        return space_of(self.program, self.declaration)


TRAINING = 3  # a forward and a backward pass, in forwards
HEALED_SHARE = 0.75  # of the layers, those from a child's first change on, while nobody knows the child
DECODED = 8  # steps of a timed window
BYTES_A_TOKEN = 5.0  # of text in JSON lines


def shape_of(program: nodes.Program, space: str) -> nodes.Shape:
    """Return the shape of a space's parent."""
    return program.parents[program.spaces[space].parent].shape


def token_flop(shape: nodes.Shape, *, head: bool) -> float:
    """FLOP of one token's forward in a long prefill."""
    work = Workload(1, 1024, 1)
    layers = sum(
        len(layers) * sub_block_flop(own, a, work)[0]
        for own, layers in shape.kinds()
        for a in (ParentAttention(), ParentFfn())
    )
    return layers / work.prompt + (head_flop(shape) if head else 0.0)


def head_flop(shape: nodes.Shape) -> float:
    """FLOP of one token's logits."""
    return float(fixed_flop(shape, Workload(1, 1, 1)))


def timed_work(shape: nodes.Shape, scenario: nodes.Scenario, weight_bytes: int) -> Work:
    """Return the work of a prefill and a window of decode steps, each of which reads all weights."""
    batch = max(scenario.batches, default=1)
    flop = batch * token_flop(shape, head=False) * (scenario.prompt + DECODED)
    return Work(flop, layer_calls=shape.layers) + decoding_work(shape, DECODED, weight_bytes)


def decoding_work(shape: nodes.Shape, steps: int, weight_bytes: int) -> Work:
    """Return the work of decode steps: what they read and call; their arithmetic takes less."""
    read = steps * facts.total_params(shape) * weight_bytes
    return Work(moved_bytes=read, layer_calls=steps * shape.layers)


def healing_flop(shape: nodes.Shape, tokens: int, layers: float) -> float:
    """Return the FLOP of healing the upper `layers`: two passes, and Gram matrices with targets, 2 (n^2 + 2 n hidden) a token."""
    body = token_flop(shape, head=False)
    grams = 0.0
    for own, alike in shape.kinds():
        for inputs in (own.heads * own.head_dim, widest(own)):
            grams += len(alike) * 2 * (inputs**2 + 2 * inputs * own.hidden)
    return tokens * (body + layers / shape.layers * (body + grams))


def item_tokens(base: Path, tasks: Iterable[str], items: int | None) -> float:
    """Return the tokens of so many items of each task, by the bytes of their files."""
    total = 0.0
    for path in (p for pattern in tasks for p in base.glob(pattern)):
        with path.open("rb") as file:
            lines = [len(line) for line in file]
        kept = len(lines) if items is None else min(items, len(lines))
        total += sum(lines) / max(len(lines), 1) * kept / BYTES_A_TOKEN
    return total


def piece_params(job: BldJob, shape: nodes.Shape) -> int:
    """Return the parameters of a job's piece."""
    alternatives: list[Alternative] = [a for a in (job.attention, job.ffn) if a is not None]
    return sum(a.params(shape.at(job.layer)) for a in alternatives)


def child_bytes(ctx: Context, space: str) -> int:
    """Bytes of a child, taken as large as its parent: the search finds out how much smaller it is."""
    return facts.total_params(shape_of(ctx.program, space)) * weight_bytes(ctx, space)


def weight_bytes(ctx: Context, space: str) -> int:
    """Bytes of a stored weight, as the parent's config.json says; 2 where there is none."""
    source = ctx.program.parents[ctx.program.spaces[space].parent].source
    if isinstance(source, nodes.HfSource):
        try:
            config = json.loads((ctx.base / source.id / "config.json").read_text())
            return 4 if "32" in str(config.get("dtype") or config.get("torch_dtype")) else 2
        except (OSError, ValueError):
            pass
    return 2


def weight_bytes_of(program: nodes.Program, scenario: nodes.Scenario) -> int:
    """Return the bytes of a weight while a scenario is timed on this machine."""
    return 4 if getattr(program.hardware[scenario.hardware], "dtype", None) == "fp32" else 2


def file_bytes(base: Path, patterns: Iterable[str]) -> int:
    """Return the size of all files that match."""
    return sum(path.stat().st_size for pattern in patterns for path in matching(base, pattern))
