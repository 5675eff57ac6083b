"""Healed weights of a child's definition: the part of `pzl realise` that runs models.

Callers guarantee that the definition's pieces are in the library and that `jobs` contains the jobs that made them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.progress import Progress
from puzzledsl.child.assemble import Pieces
from puzzledsl.child.healing.streams import HELD_BYTES
from puzzledsl.child.healing.text import healing_text
from puzzledsl.child.healing.walk import heal
from puzzledsl.ir.nodes import Bld, Program
from puzzledsl.ir.tables import BldJob, ModelDefinition
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import reachable_parent

STREAMS_AT_A_TIME = 16
"""Upper bound n on the number of streams alive at once. A stream above 1 / n of the free memory is kept in a file."""


@dataclass(frozen=True)
class HealingInputs:
    """Inputs of healing one child: its definition, the jobs and weights of its pieces, and the parent.

    Relative data paths start at `base`; `cache` holds tokenised text. Layers that an interrupted run of the same child left
    in `work` are reused.
    """

    program: Program
    definition: ModelDefinition
    jobs: Iterable[BldJob]
    parent_dir: Path
    base: Path
    pieces: Pieces
    cache: Path
    work: Path
    progress: Progress


def healed_weights(inputs: HealingInputs) -> dict[str, LazyTensor]:
    """Heal a child and return the weights that replace the assembled ones, by transformers' names.

    Empty if there is nothing to heal, no text to heal on, or healing does not lower the KL divergence on held-out tokens. The
    result reads files in `work`; the caller removes it afterwards. Raises DiagnosticError.
    """
    program, definition, progress = inputs.program, inputs.definition, inputs.progress
    declaration = _bld_of(program, definition, inputs.jobs)
    if declaration is None or _is_the_parent(definition):
        return {}
    tokenizer = load_tokenizer(inputs.parent_dir)
    text = healing_text(program, declaration, inputs.base, tokenizer, inputs.cache)
    if text is None:
        return {}
    calibration_NS, held_out_NS = text
    model = reachable_parent(inputs.parent_dir, progress, once=True)
    held_bytes = min(HELD_BYTES, room_bytes() // STREAMS_AT_A_TIME)
    given = (definition.layers, inputs.pieces, calibration_NS, held_out_NS, inputs.work, progress)
    healed = heal(model, *given, held_bytes=held_bytes)
    progress.log(
        "healed",
        search=definition.search,
        kept="healed" if healed.improved else "assembled",
        kl_assembled=healed.kl_before,
        kl_healed=healed.kl_after,
        calibration_tokens=calibration_NS.numel(),
        held_out_tokens=held_out_NS.numel(),
        data=declaration.heal_data or declaration.data,
    )
    return healed.weights if healed.improved else {}


def _bld_of(program: Program, definition: ModelDefinition, jobs: Iterable[BldJob]) -> Bld | None:
    """Return the `bld` declaration of the child's first piece; of any job if the child has no piece; None without jobs."""
    made_by = {job.id: job.bld for job in jobs}
    for layer in definition.layers:
        for piece in (layer.block_piece, layer.attention_piece, layer.ffn_piece):
            if piece is not None:
                return program.blds[made_by[piece]]
    return next((program.blds[name] for name in made_by.values()), None)


def _is_the_parent(definition: ModelDefinition) -> bool:
    return all(layer.attention.kind == "parent" == layer.ffn.kind for layer in definition.layers)
