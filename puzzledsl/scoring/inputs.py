"""Inputs of scoring: the program, the parent, the pieces and the child around which blocks are replaced.

Text of a score: blocks to score on, blocks to heal on, and further blocks for block influence.

Shapes: N blocks, S tokens of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.child.healing.text import healing_text
from puzzledsl.cluster.tasks import Executor, LocalExecutor
from puzzledsl.data.blocks import token_rows
from puzzledsl.data.budget import Budget
from puzzledsl.data.errors import AnswersNotFound, NotEnoughText
from puzzledsl.data.rows import TokenRows
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.tables import BldJob, ModelDefinition
from puzzledsl.models.families.load import check_tokens, load_tokenizer
from puzzledsl.pieces.store.library import Library
from puzzledsl.scoring.errors import NoHealingText
from puzzledsl.scoring.influence import POSITIONS
from puzzledsl.scoring.measures import group_tokens


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


class Scored(NamedTuple):
    """Blocks to score on, [N, S], and which of their positions count, bool [N, S]; None if all do."""

    tokens_NS: Tensor
    learned_NS: Tensor | None


def scored(inputs: ScoreInputs, *, unseen: bool = False) -> Scored:
    """Return the blocks for `samples` positions.

    They come after the blocks that the pieces were trained on; with a warning, they are the first ones if the text is too
    short. `unseen`: the blocks after the scored ones instead. Raises DiagnosticError (NotEnoughText, AnswersNotFound and those
    of reading text).
    """
    samples, first = inputs.method.samples, inputs.trained_blocks
    count = -(-samples // inputs.bld.context)
    try:
        rows = inputs.rows(first + count if unseen else first, count)
    except DiagnosticError as error:
        if unseen or not first or not isinstance(error.diagnostics[0], NotEnoughText):
            raise
        text = f"data `{inputs.data}` is too short to score on text that was not trained on"
        inputs.progress.log("warning", text=text)
        rows = inputs.rows(0, count)
    tokens_NS, learned_NS = rows[:], rows.learned(slice(None))
    check_tokens(inputs.parent_dir, tokens_NS)
    if learned_NS is not None and not learned_NS.flatten()[:samples].any():
        reason = f"none is among the {samples} positions that score `{inputs.score}` reads"
        span = span_of(inputs.declaration.where)
        raise DiagnosticError(AnswersNotFound(span, name=inputs.data, reason=reason))
    if count > 1:
        return Scored(tokens_NS, learned_NS)
    return Scored(tokens_NS[:, :samples], None if learned_NS is None else learned_NS[:, :samples])


def healing_blocks(inputs: ScoreInputs, healed: int) -> Tensor:
    """Return blocks [N, S] of the text that children of a BLD's pieces are healed on: `healed` tokens, at least two blocks.

    Raises DiagnosticError: NoHealingText, missing or unreadable files.
    """
    bld, score = inputs.bld, inputs.declaration
    wanted = bld.model_copy(update={"heal_tokens": max(healed, 2 * bld.context)})
    given = (inputs.base, inputs.tokenizer, inputs.build.tokens, inputs.progress)
    text = healing_text(inputs.program, wanted, *given)
    if text is None or len(text[0]) < 2:
        raise DiagnosticError(NoHealingText(span_of(score.where), score=score.name, bld=bld.name))
    check_tokens(inputs.parent_dir, text[0])
    return text[0]


def text_behind(inputs: ScoreInputs, samples: int, device: torch.device) -> Sequence[Tensor]:
    """Return groups [B, S] of tokens after the scored ones, so that both together are enough for block influence.

    Empty for tasks, if enough is scored already, or if the text is too short.
    """
    context = inputs.bld.context
    scored = -(-samples // context)
    wanted = -(-POSITIONS // context) - scored
    if inputs.method.metric == "accuracy" or inputs.data is None or wanted <= 0:
        return ()
    try:
        tokens_NS = inputs.blocks(inputs.trained_blocks + scored, wanted)
    except DiagnosticError as error:
        if isinstance(error.diagnostics[0], NotEnoughText):
            return ()
        raise
    return torch.split(tokens_NS, max(1, group_tokens(device) // context))
