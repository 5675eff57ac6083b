"""A child's definition -> its healed weights. The part of `pzl realise` that runs models.

The stage before guarantees that the pieces of the definition are in the library and made by `jobs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.healing.walk import heal
from puzzledsl.ir.nodes import Bld, Program
from puzzledsl.ir.tables import BldJob, ModelDefinition
from puzzledsl.modeling.assemble import Pieces
from puzzledsl.modeling.placement import reachable_parent
from puzzledsl.parents.load import load_tokenizer
from puzzledsl.parents.tensors import LazyTensor
from puzzledsl.progress import Progress

HELD_OUT_TOKENS = 1024
"""At most: enough to tell better from worse, and a tenth of the work."""


def healed_weights(
    program: Program,
    definition: ModelDefinition,
    jobs: Iterable[BldJob],
    parent_dir: Path,
    base: Path,
    pieces: Pieces,
    cache: Path,
    work: Path,
    progress: Progress,
) -> dict[str, LazyTensor]:
    """What replaces the assembled child's weights, by transformers' names; nothing where the child is better left alone.

    Calibration tokens are those that its pieces were initialised on, and the child is judged by KL on some that its BLD
    held out: scoring reads others. `work` must outlive the result, and is the caller's to remove; what it holds of a
    killed run of the same child is used. Raises DiagnosticError.
    """
    declaration = _bld_of(program, definition, jobs)
    if declaration is None or declaration.data is None:
        return {}
    budget = Budget.of(declaration)
    held_out = min(budget.held_out, max(1, HELD_OUT_TOKENS // budget.context))
    tokens_NS = token_blocks(
        program.data[declaration.data],
        base,
        load_tokenizer(parent_dir),
        context=budget.context,
        tokens=budget.blocks * budget.context,
        seed=budget.seed,
        cache=cache,
    )
    model = reachable_parent(parent_dir, progress, once=True)
    behind = budget.calibration + budget.training
    healed = heal(
        model,
        definition.layers,
        pieces,
        tokens_NS[: budget.calibration],
        tokens_NS[behind : behind + held_out],
        work,
        progress,
    )
    progress.log(
        "healed",
        search=definition.search,
        kept="healed" if healed.improved else "assembled",
        kl_assembled=healed.kl_before,
        kl_healed=healed.kl_after,
        calibration_tokens=budget.calibration * budget.context,
        held_out_tokens=held_out * budget.context,
    )
    return healed.weights if healed.improved else {}


def _bld_of(program: Program, definition: ModelDefinition, jobs: Iterable[BldJob]) -> Bld | None:
    """The declaration that made the child's first piece; None for a child without pieces."""
    made_by = {job.id: job.bld for job in jobs}
    for layer in definition.layers:
        for piece in (layer.block_piece, layer.attention_piece, layer.ffn_piece):
            if piece is not None:
                return program.blds[made_by[piece]]
    return None
