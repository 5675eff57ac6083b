"""Text of a score: blocks to score on, blocks to heal on, and further blocks for block influence.

Shapes: N blocks, S tokens of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.child.healing.text import healing_text
from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.data.errors import NotEnoughText
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.store.library import Library
from puzzledsl.scoring.errors import NoHealingText
from puzzledsl.scoring.influence import POSITIONS
from puzzledsl.scoring.measures import group_tokens


def scored_text(
    data: nodes.Data,
    base: Path,
    tokenizer: Any,
    method: nodes.ReplaceOne,
    bld: nodes.Bld,
    behind: bool,
    cache: Path,
    progress: Progress,
    unseen: bool,
) -> Tensor:
    """Return the blocks for `samples` positions, [N, S].

    `behind`: the text is the BLD's, so the blocks after the BLD's own are read; with a warning, the first ones if the text is too
    short. `unseen`: the blocks after the scored ones instead. Raises DiagnosticError (NotEnoughText and those of reading text).
    """
    budget = Budget.of(bld)
    blocks = -(-method.samples // budget.context)
    skipped = budget.blocks if behind else 0

    def read(first: int) -> Tensor:
        count = first + blocks
        return token_blocks(
            data,
            base,
            tokenizer,
            context=budget.context,
            tokens=count * budget.context,
            seed=bld.seed,
            cache=cache,
        )[first:]

    try:
        tokens = read(skipped + blocks if unseen else skipped)
    except DiagnosticError as error:
        if unseen or not skipped or not isinstance(error.diagnostics[0], NotEnoughText):
            raise
        progress.log(
            "warning", text=f"data `{data.name}` is too short to score on text that was not trained on"
        )
        tokens = read(0)
    return tokens[:, : method.samples] if blocks == 1 else tokens


def healing_blocks(
    program: nodes.Program,
    score: nodes.Score,
    healed: int,
    bld: nodes.Bld,
    base: Path,
    tokenizer: Any,
    cache: Path,
) -> Tensor:
    """Return blocks [N, S] of the text that children of a BLD's pieces are healed on: `healed` tokens, at least two blocks.

    Raises DiagnosticError: NoHealingText, missing or unreadable files.
    """
    wanted = bld.model_copy(update={"heal_tokens": max(healed, 2 * bld.context)})
    text = healing_text(program, wanted, base, tokenizer, cache)
    if text is None or len(text[0]) < 2:
        raise DiagnosticError(NoHealingText(span_of(score.where), score=score.name, bld=bld.name))
    return text[0]


def text_behind(
    program: nodes.Program,
    method: nodes.ReplaceOne,
    bld: nodes.Bld,
    samples: int,
    runner: LayerRunner,
    parent_dir: Path,
    base: Path,
    library: Library,
) -> Sequence[Tensor]:
    """Return groups [B, S] of tokens after the scored ones, so that both together are enough for block influence.

    Empty for tasks, if enough is scored already, or if the text is too short.
    """
    name, budget = method.data or bld.data, Budget.of(bld)
    scored = -(-samples // budget.context)
    wanted = -(-POSITIONS // budget.context) - scored
    if method.metric == "accuracy" or name is None or wanted <= 0:
        return ()
    first = scored + (budget.blocks if name == bld.data else 0)
    tokenizer, cache = load_tokenizer(parent_dir), BuildDir(library.root.parent).tokens
    try:
        tokens_NS = token_blocks(
            program.data[name],
            base,
            tokenizer,
            context=budget.context,
            tokens=(first + wanted) * budget.context,
            seed=bld.seed,
            cache=cache,
        )[first:]
    except DiagnosticError as error:
        if isinstance(error.diagnostics[0], NotEnoughText):
            return ()
        raise
    return torch.split(tokens_NS, max(1, group_tokens(runner.device) // budget.context))
