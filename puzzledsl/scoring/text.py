"""Text of a score: blocks to score on, blocks to heal on, and further blocks for block influence.

Shapes: N blocks, S tokens of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.healing.text import healing_text
from puzzledsl.data.errors import AnswersNotFound, NotEnoughText
from puzzledsl.ir.base import span_of
from puzzledsl.models.families.load import check_tokens
from puzzledsl.scoring.errors import NoHealingText
from puzzledsl.scoring.influence import POSITIONS
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import group_tokens


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
