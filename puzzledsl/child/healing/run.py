"""Healed weights of a child's definition: the part of `pzl realise` that runs models, and the text that it fits to.

Callers guarantee that the definition's pieces are in the library and that `jobs` contains the jobs that made them. Scores are
never measured on that text. All are blocks of the same shuffled order that BLD and scoring read (`data.counts`):

    | BLD calibration | BLD training | BLD held out | scored | scored by children's fits | free … |
      healing           healing        judges                                               healing

A separate text for healing (`heal_data`) has no BLD parts: scored blocks come first, then judging blocks, then calibration.

Shapes: N blocks, S context.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.base.files import write_text
from puzzledsl.base.progress import Progress
from puzzledsl.child.healing.fit import HELD_BYTES
from puzzledsl.child.healing.walk import Healed, heal
from puzzledsl.cluster.tasks import Task, TeamSpec
from puzzledsl.data.counts import Budget
from puzzledsl.data.streams import SILENT, token_rows
from puzzledsl.ir.nodes import Bld, Program, ReplaceOne
from puzzledsl.ir.references import refined_text
from puzzledsl.ir.tables import BldJob, ModelDefinition
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.machine import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.library import StageInputs
from puzzledsl.plan.flop import JUDGING_TOKENS


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
    tokens = (behind + wanted) * bld.context
    blocks_NS = token_rows(
        *(program.data[name], base, tokenizer),
        context=bld.context,
        tokens=tokens,
        seed=bld.seed,
        cache=cache,
        progress=progress,
        or_fewer=True,
    )[:]
    healing_NS = torch.cat([blocks_NS[:calibration], blocks_NS[behind:]])[:wanted]
    held_out_NS = blocks_NS[judging]
    return (healing_NS, held_out_NS) if len(healing_NS) and len(held_out_NS) else None


def blocks_read(program: Program, data: str, context: int, seed: int) -> int:
    """Return the number of first blocks that BLD, scores and healing read; nothing is fitted to the text behind them."""
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
    """Return (number of first blocks to heal on, slice that judges, first free block). `own`: the text is not the BLD's."""
    budget = Budget.of(bld)
    count = max(1, JUDGING_TOKENS // bld.context)
    if own:
        return 0, slice(scored, scored + count), scored + count
    front = budget.calibration + budget.training
    return front, slice(front, front + min(count, budget.held_out)), budget.blocks + scored


def _scored_blocks(program: Program, data: str, context: int) -> int:
    """Return twice the blocks of this text that scores and refinements read: no child is healed on what it may be judged by."""
    samples = [
        score.method.samples
        for score in program.scores.values()
        if isinstance(score.method, ReplaceOne)
        and data == (score.method.data or (program.blds[score.bld].data if score.bld else None))
    ]
    samples += [
        search.refine.samples
        for search in program.searches.values()
        if search.refine is not None and refined_text(program, search) == data
    ]
    return 2 * -(-max(samples, default=0) // context)


STREAMS_AT_A_TIME = 16
"""Upper bound n on the number of streams alive at once. A stream above 1 / n of the free memory is kept in a file."""


OUTCOME = "healed.json"
"""The file of `HealingInputs.work` that says what healing a whole child gave."""


@dataclass(frozen=True)
class HealingInputs(StageInputs):
    """Inputs of healing the child of a definition, that of a search.

    Layers that an interrupted run of the same child, or a lost worker, left in `work` are reused; so is all of a finished one.
    """

    definition: ModelDefinition = field(kw_only=True)

    def heal(self, bld: Bld) -> Healed | None:
        """Heal the child, here or on a worker; None if there is no text to heal on. Raises DiagnosticError."""
        given = (self.base, self.tokenizer, self.build.tokens, self.progress)
        text = healing_text(self.program, bld, *given)
        if text is None:
            return None
        model = reachable_parent(self.parent_dir, self.progress, once=True)
        held_bytes = min(HELD_BYTES, room_bytes() // STREAMS_AT_A_TIME)
        pieces = self.library.load
        layers = self.definition.layers
        return heal(model, layers, pieces, *text, self.work, self.progress, held_bytes=held_bytes)


def healed_weights(inputs: HealingInputs) -> dict[str, LazyTensor]:
    """Heal a child and return the weights that replace the assembled ones, by transformers' names.

    Empty if there is nothing to heal, no text to heal on, or healing does not lower the KL divergence on held-out tokens. The
    result reads files in `work`; the caller removes it afterwards. Raises DiagnosticError.
    """
    program, definition = inputs.program, inputs.definition
    declaration = _bld_of(program, definition, inputs.jobs)
    if declaration is None or all(a.attention.is_parent and a.ffn.is_parent for a in definition.layers):
        return {}
    outcome = _known(inputs.work) or _healed(inputs, declaration)
    return {} if outcome is None or not outcome.improved else outcome.weights(inputs.work)


def _known(work: Path) -> Healed | None:
    """Return what a finished run of the same child left."""
    if not (file := work / OUTCOME).exists():
        return None
    known = json.loads(file.read_text("utf-8"))
    return Healed(**{**known, "layers": tuple(known["layers"])})


def _healed(inputs: HealingInputs, declaration: Bld) -> Healed | None:
    """Heal the child, and keep the outcome beside its layers; None if there is no text to heal on."""
    search, there = inputs.name, inputs.sent(jobs=())
    outcome: Healed | None
    with inputs.executor.open(TeamSpec(lambda member: there), inputs.progress) as teams:
        ((_, outcome),) = teams.run([Task.call(search, "heal", declaration)])
    if outcome is not None:
        write_text(inputs.work / OUTCOME, json.dumps(asdict(outcome)))
        inputs.progress.log(
            "healed",
            search=search,
            kept="healed" if outcome.improved else "assembled",
            kl_assembled=outcome.kl_before,
            kl_healed=outcome.kl_after,
            calibration_tokens=outcome.calibration_tokens,
            held_out_tokens=outcome.held_out_tokens,
            data=declaration.heal_data or declaration.data,
        )
    return outcome


def _bld_of(program: Program, definition: ModelDefinition, jobs: Iterable[BldJob]) -> Bld | None:
    """Return the `bld` declaration of the child's first piece; of any job if the child has no piece; None without jobs."""
    made_by = {job.id: job.bld for job in jobs}
    for layer in definition.layers:
        for piece in (layer.block_piece, layer.attention_piece, layer.ffn_piece):
            if piece is not None:
                return program.blds[made_by[piece]]
    return next((program.blds[name] for name in made_by.values()), None)
