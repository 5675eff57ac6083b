"""Text of a score: blocks to score on, blocks to heal on, and further blocks for block influence.

Shapes: N blocks, S tokens of a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.healing.text import healing_text
from puzzledsl.data.errors import NotEnoughText
from puzzledsl.ir.source_location import span_of
from puzzledsl.models.families.load import check_tokens
from puzzledsl.scoring.errors import NoHealingText
from puzzledsl.scoring.influence import POSITIONS
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import group_tokens


def scored_text(inputs: ScoreInputs, *, unseen: bool = False) -> Tensor:
    """Return the blocks for `samples` positions, [N, S].

    They come after the blocks that the pieces were trained on; with a warning, they are the first ones if the text is too
    short. `unseen`: the blocks after the scored ones instead. Raises DiagnosticError (NotEnoughText and those of reading
    text).
    """
    samples, first = inputs.method.samples, inputs.trained_blocks
    count = -(-samples // inputs.bld.context)
    try:
        tokens = inputs.blocks(first + count if unseen else first, count)
    except DiagnosticError as error:
        if unseen or not first or not isinstance(error.diagnostics[0], NotEnoughText):
            raise
        text = f"data `{inputs.data}` is too short to score on text that was not trained on"
        inputs.progress.log("warning", text=text)
        tokens = inputs.blocks(0, count)
    check_tokens(inputs.parent_dir, tokens)
    return tokens[:, :samples] if count == 1 else tokens


def healing_blocks(inputs: ScoreInputs, healed: int) -> Tensor:
    """Return blocks [N, S] of the text that children of a BLD's pieces are healed on: `healed` tokens, at least two blocks.

    Raises DiagnosticError: NoHealingText, missing or unreadable files.
    """
    bld, score = inputs.bld, inputs.declaration
    wanted = bld.model_copy(update={"heal_tokens": max(healed, 2 * bld.context)})
    text = healing_text(inputs.program, wanted, inputs.base, inputs.tokenizer, inputs.build.tokens)
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
