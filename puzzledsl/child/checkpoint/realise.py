"""Write a child's checkpoint directory from ModelDefinition, parent and pieces, without holding the child in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from puzzledsl.child.assemble import Pieces
from puzzledsl.child.checkpoint.contents import from_definition
from puzzledsl.child.checkpoint.shards import SHARD_BYTES
from puzzledsl.child.checkpoint.write import refuse_to_overwrite, write_checkpoint
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.families.tensors import LazyTensor


def realise(
    definition: ModelDefinition,
    parent_dir: Path,
    pieces: Pieces,
    out_dir: Path,
    card: str | None = None,
    *,
    healed: Mapping[str, LazyTensor] | None = None,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the child to `out_dir`, with one tensor or one piece in memory at a time.

    `dtype`: default the parent's stored dtype. `healed`: weights that take the place of the pieces' own.

    Raises DiagnosticError: those of `from_definition` and of reading a piece, and WouldOverwrite.
    """
    refuse_to_overwrite(out_dir)
    child = from_definition(definition, parent_dir, pieces, dtype)
    if healed:
        stored = replace(child, weights=dict(healed)).cast(child.dtype).weights
        child = replace(child, weights=child.weights | stored)
    write_checkpoint(
        child,
        parent_dir,
        out_dir,
        card,
        name=definition.name,
        parent=definition.parent,
        shard_bytes=shard_bytes,
    )
