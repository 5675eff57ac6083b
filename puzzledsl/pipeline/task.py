"""Base class of the pipeline's tasks: all that a run, `pzl status` and dry runs ask of one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.references import OfASpace, space_of
from puzzledsl.ir.tables import BldJob
from puzzledsl.language.kinds import KINDS
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context, Key
from puzzledsl.pipeline.estimates import Work
from puzzledsl.plan.memory.stage_plan import Device, StagePlan

Declared = TypeVar("Declared", bound=OfASpace)


@dataclass(frozen=True, eq=False)
class Task(ABC):
    """One stage of one declaration. Subclasses are in `pipeline/tasks/`.

    Class attributes describe the stage:
        stage: Its name, as in `pzl run --until STAGE`.
        kind: What messages call its declarations.
        by_space: Its space may be one that another search narrows (`used_by`); then it waits for that search's solution.
        reads_text: Reads text, with the parent's tokenizer.
        sets_pace: Its logged duration corrects the machine's speed in estimates.
    """

    ctx: Context
    name: str = ""

    stage: ClassVar[str]
    kind: ClassVar[str]
    by_space: ClassVar[bool] = False
    reads_text: ClassVar[bool] = False
    sets_pace: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, object]:
        """Return the declarations that have this stage, by name."""

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
        """Stage and name as text: `score kl`."""
        return f"{self.stage} {self.name}".strip()

    @property
    def space(self) -> str:
        """The space that the task belongs to; empty if it belongs to none."""
        return ""

    @property
    def shape(self) -> nodes.Shape:
        """The shape of the space's parent."""
        return self.program.parents[self.program.spaces[self.space].parent].shape

    @property
    def parent(self) -> Path:
        """The directory of the space's parent. Raises DiagnosticError if it is not there."""
        return self.ctx.parent_directory(self.space, self.stage)

    @property
    def parent_digest(self) -> str:
        """Digest of the space's parent. Raises DiagnosticError if it is not there or cannot be read."""
        return self.ctx.fingerprint(self.space, self.stage)

    @property
    def blds(self) -> list[str]:
        """The BLDs that make the pieces of the space."""
        return inputs.blds_of(self.program, self.space)

    @property
    def jobs(self) -> list[BldJob]:
        """The jobs of `blds`: those of layers and of the output head."""
        return [job for bld in self.blds for job in inputs.pieces_of(self.ctx, bld)]

    @property
    def heal_tokens(self) -> int:
        """Tokens that a child of the space is healed on (the most of any BLD); 0 if children are not healed."""
        blds = self.blds if self.ctx.heal else []
        return max((self.program.blds[bld].heal_tokens for bld in blds), default=0)

    def child_made(self, model: str) -> str:
        """Return the digest of a finished child. Raises DiagnosticError if it is not finished."""
        return self.ctx.made(*inputs.child_task(self.program, model), "the child")

    @property
    def work_folder(self) -> Path:
        """The folder of unfinished work."""
        return self.ctx.build.work(self.stage, self.name)

    @abstractmethod
    def inputs(self) -> dict[str, str]:
        """Return the digests of all that the outputs depend on. Raises DiagnosticError if an earlier task is not finished."""

    def needs(self) -> tuple[Key, ...]:
        """Return the tasks whose outputs this one reads. Scores that are read from tables are no tasks."""
        return ()

    def requires(self) -> tuple[Key, ...]:
        """Return the tasks of `needs` without which it cannot run: all, unless it can run without some of its inputs."""
        return self.needs()

    def follows(self, undone: Sequence[Key]) -> tuple[Key, ...]:
        """Return the tasks of `undone` that make this one stale until they are done."""
        return tuple(key for key in self.needs() if key in undone)

    def texts(self) -> Iterable[str | None]:
        """Return the names of the data sets that the task reads. None stands for no data set."""
        return ()

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        """Return the data sets of which the task reads a known number of tokens, as (name, tokens, tokens a block)."""
        return ()

    def items(self) -> Iterable[tuple[str, nodes.Where]]:
        """Return the files of questions (`tasks`) that the task reads, each with the place in the program that names it."""
        return ()

    def lacks(self) -> Iterable[Diagnostic]:
        """Return the other problems that would stop it, besides missing texts and items: missing packages, for example."""
        return ()

    def exists(self) -> bool:
        """Return False if there is nothing to make, for example the child of an infeasible search."""
        return True

    def work(self) -> Work:
        """Return the estimate of its work; an empty one if it takes negligible time."""
        return Work()

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        """Return the memory plans of its parts on a device; empty if it loads no model. `disk_bytes`: free disk space."""
        return []

    @abstractmethod
    def run(self) -> list[Path]:
        """Make the outputs and return their paths. A directory stands for all files below it."""

    @staticmethod
    def keep(path: Path, artefact: Artefact) -> list[Path]:
        """Write an artefact and return its path as the only output of `run`."""
        write_text(path, artefact.canonical_json())
        return [path]

    def damaged(self) -> tuple[str, ...]:
        """Return the outputs that are damaged although the stamp matches. Raises DiagnosticError if they are unreadable."""
        return ()

    def remark(self) -> str:
        """Return the outcome in a few words, beginning with a comma; empty if there is nothing to say."""
        return ""

    def dead_end(self) -> Diagnostic | None:
        """Return the reason why later tasks cannot be done although this one is, for example an infeasible search; else None."""
        return None


class DeclaredTask(Task, Generic[Declared]):
    """A task of one declaration of `kind`. Such declarations belong to a space."""

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, Declared]:
        """Return the declarations of the kind, by name."""
        found: Mapping[str, Declared] = getattr(program, KINDS[cls.kind].plural)
        return found

    @property
    def declaration(self) -> Declared:
        """The declaration that the task is of, in the present program."""
        return self.declared(self.program)[self.name]

    @property
    def space(self) -> str:
        """The space of the declaration."""
        return space_of(self.program, self.declaration)
