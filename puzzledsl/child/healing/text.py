"""Text for healing: calibration tokens to fit to and held-out tokens to judge by. Scores are never measured on either.

All are blocks of the same shuffled order that BLD and scoring read (`data.budget`):

    | BLD calibration | BLD training | BLD held out | scored | scored by children's fits | free … |
      healing           healing        judges                                               healing

A separate text for healing (`heal_data`) has no BLD parts: scored blocks come first, then judging blocks, then calibration.

Shapes: N blocks, S context.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.data.blocks import SILENT, token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.ir.nodes import Bld, Program, ReplaceOne, Score
from puzzledsl.ir.references import measured_searches, refined_text

HELD_OUT_TOKENS = 1024
"""Most tokens that judge a healed child (at least one block): enough to tell better from worse at little cost."""


def healing_text(
    program: Program, bld: Bld, base: Path, tokenizer: Any, cache: Path, progress: Progress = SILENT
) -> tuple[Tensor, Tensor] | None:
    """Return calibration and held-out blocks, [N, S] each, for healing children made of a BLD's pieces.

    The calibration blocks have `heal` tokens, or fewer if the text is short. None if the text has no blocks for one of the two,
    or the declaration asks for no healing. Raises DiagnosticError: missing or unreadable files.
    """
    name = bld.heal_data or bld.data
    wanted = -(-bld.heal_tokens // bld.context)
    if name is None or not wanted:
        return None
    own = name != bld.data
    scored = _scored_blocks(program, name, bld.context)
    calibration, judging, behind = _parts(bld, scored, own)
    blocks_NS = _up_to(program, name, bld, base, tokenizer, cache, behind + wanted, progress)
    healing_NS = torch.cat([blocks_NS[:calibration], blocks_NS[behind:]])[:wanted]
    held_out_NS = blocks_NS[judging]
    return (healing_NS, held_out_NS) if len(healing_NS) and len(held_out_NS) else None


def blocks_read(program: Program, data: str, context: int, seed: int) -> int:
    """Return the number of blocks at the front of a text's order that BLD, scores and healing read.

    Training that starts after them uses text that nothing was fitted to.
    """
    found = [0]
    for bld in program.blds.values():
        if (bld.context, bld.seed) != (context, seed):  # another order
            continue
        scored, wanted = _scored_blocks(program, data, context), -(-bld.heal_tokens // context)
        if data == bld.data:
            found.append(Budget.of(bld).blocks + scored)
        if wanted and data == (bld.heal_data or bld.data):
            front, _, behind = _parts(bld, scored, data != bld.data)
            found.append(behind + max(0, wanted - front))
    return max(found)


def _parts(bld: Bld, scored: int, own: bool) -> tuple[int, slice, int]:
    """Return (number of first blocks to heal on, slice of blocks that judge, number of the first free block).

    `own`: the text is not the BLD's.
    """
    budget = Budget.of(bld)
    count = max(1, HELD_OUT_TOKENS // bld.context)
    if own:
        return 0, slice(scored, scored + count), scored + count
    front = budget.calibration + budget.training
    return front, slice(front, front + min(count, budget.held_out)), budget.blocks + scored


def _scored_blocks(program: Program, data: str, context: int) -> int:
    """Return the blocks that scores and refinements read from this text, and as many again.

    The second half is the unseen text of `scoring.run.score_children`.
    """
    samples = [
        score.method.samples
        for score in program.scores.values()
        if isinstance(score.method, ReplaceOne) and data == (score.method.data or _bld_data(program, score))
    ]
    samples += [
        search.refine.samples
        for search in measured_searches(program)
        if search.refine is not None and refined_text(program, search) == data
    ]
    return 2 * -(-max(samples, default=0) // context)


def _bld_data(program: Program, score: Score) -> str | None:
    return None if score.bld is None else program.blds[score.bld].data


def _up_to(
    program: Program,
    name: str,
    bld: Bld,
    base: Path,
    tokenizer: Any,
    cache: Path,
    blocks: int,
    progress: Progress,
) -> Tensor:
    """Return the first `blocks` of the text's order, or all of them if there are fewer, [N, S]."""

    def read(tokens: int) -> Tensor:
        source, context = program.data[name], bld.context
        return token_blocks(
            *(source, base, tokenizer),
            context=context,
            tokens=tokens,
            seed=bld.seed,
            cache=cache,
            progress=progress,
        )

    try:
        return read(blocks * bld.context)
    except DiagnosticError as error:
        most = _tokens_there(error)
        if most is None:
            raise
        return read(most // bld.context * bld.context)


def _tokens_there(error: DiagnosticError) -> int | None:
    """Return the number of tokens that a too short text has; for a mix, as many as its proportions allow.

    None if the error is not about too little text.
    """
    facts = error.diagnostics[0].args
    if not {"got", "needed"} <= facts.keys():
        return None
    return int(str(facts.get("most", facts["got"])))
