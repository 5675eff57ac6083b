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
        by_space: Done for the listed spaces, and again for the spaces that their solutions narrow.
        reads_text: Reads text, with the parent's tokenizer.
        sets_pace: Its duration measures the machine's speed for estimates.
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
        """`score kl`."""
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
        """Digest of the space's parent. Raises DiagnosticError if it is not there."""
        return self.ctx.fingerprint(self.space, self.stage)

    @property
    def blds(self) -> list[str]:
        """The BLDs that make the pieces of the space."""
        return inputs.blds_of(self.program, self.space)

    @property
    def jobs(self) -> list[BldJob]:
        """The jobs of these."""
        return [job for bld in self.blds for job in inputs.pieces_of(self.ctx, bld)]

    @property
    def heal_tokens(self) -> int:
        """Tokens that a child of the space is healed on; 0 if children are not healed."""
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
        """Return those of `needs` without which it cannot run: all of them, unless a task does with what there is."""
        return self.needs()

    def follows(self, undone: Sequence[Key]) -> tuple[Key, ...]:
        """Return those of the unfinished tasks that must be done first."""
        return tuple(key for key in self.needs() if key in undone)

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

    def work(self) -> Work:
        """Return the estimate of its work; nothing where it takes no time worth mentioning."""
        return Work()

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        """Return the memory plans of its parts on a device; none where it holds no model. `disk_bytes`: free on the disk."""
        return []

    @abstractmethod
    def run(self) -> list[Path]:
        """Do it. Return the paths written; a directory stands for all below it."""

    @staticmethod
    def keep(path: Path, artefact: Artefact) -> list[Path]:
        """Write an artefact, which is the only output."""
        write_text(path, artefact.canonical_json())
        return [path]

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
