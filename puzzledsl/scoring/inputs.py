"""Inputs of scoring: the program, the parent, the pieces and the child around which blocks are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, LocalExecutor
from puzzledsl.data.blocks import token_rows
from puzzledsl.data.budget import Budget
from puzzledsl.data.rows import TokenRows
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob, ModelDefinition
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.pieces.store.library import Library


@dataclass(frozen=True)
class ScoreInputs:
    """Inputs of one measured score.

    `jobs` are those of the score's BLD, whose pieces are in `library`. Relative data paths start at `base`. `work` holds
    unfinished work and may be removed when the table is written. With `around`, a child, replacements are made in that
    child and still compared with the parent. `executor` provides the workers that measure.
    """

    program: nodes.Program
    score: str
    parent_dir: Path
    base: Path
    library: Library
    jobs: Sequence[BldJob]
    work: Path
    progress: Progress
    around: ModelDefinition | None = None
    executor: Executor = field(default_factory=LocalExecutor)

    @property
    def declaration(self) -> nodes.Score:
        """The `score` declaration."""
        return self.program.scores[self.score]

    @property
    def method(self) -> nodes.ReplaceOne:
        """The settings of `replace_one`. Raises ValueError for a score that is read from a table."""
        if not isinstance(self.declaration.method, nodes.ReplaceOne):
            raise ValueError(f"score {self.score} is not measured, it is read from a table")
        return self.declaration.method

    @property
    def bld(self) -> nodes.Bld:
        """The BLD that made the pieces."""
        assert self.declaration.bld is not None
        return self.program.blds[self.declaration.bld]

    @property
    def data(self) -> str | None:
        """The data set that is scored on."""
        return self.method.data or self.bld.data

    @property
    def trained_blocks(self) -> int:
        """First blocks of the data set that the pieces were trained on."""
        return Budget.of(self.bld).blocks if self.data == self.bld.data else 0

    @property
    def build(self) -> BuildDir:
        """The build directory, which holds the library."""
        return BuildDir(self.library.root.parent)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The parent's tokenizer."""
        return load_tokenizer(self.parent_dir)

    def with_method(self, **changes: object) -> ScoreInputs:
        """Return the inputs of the same score with other settings."""
        method = self.method.model_copy(update=changes)
        score = self.declaration.model_copy(update={"method": method})
        scores = {**self.program.scores, self.score: score}
        return replace(self, program=self.program.model_copy(update={"scores": scores}))

    def blocks(self, first: int, count: int) -> Tensor:
        """Return `count` blocks [N, S] of the data set from the given one on. Raises DiagnosticError for too short a text."""
        return self.rows(first, count)[:]

    def rows(self, first: int, count: int) -> TokenRows:
        """Return the same blocks, not read yet, which know the positions that losses count."""
        context, cache = self.bld.context, self.build.tokens
        return token_rows(
            *(self.program.data[self.data or ""], self.base, self.tokenizer),
            context=context,
            tokens=(first + count) * context,
            seed=self.bld.seed,
            cache=cache,
            progress=self.progress,
        ).part(first)
