"""ModelDefinition + parent + pieces -> the child's checkpoint directory."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from puzzledsl.export.checkpoint import refuse_to_overwrite, save_child
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.modeling.assemble import Pieces, assemble
from puzzledsl.parents.load import load_config


def realise(
    definition: ModelDefinition,
    parent_dir: Path,
    pieces: Pieces,
    out_dir: Path,
    card: str | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Assemble the child and write it to `out_dir`, in the parent's stored dtype unless another is asked for.

    Raises DiagnosticError: those of `assemble`, and WouldOverwrite.
    """
    refuse_to_overwrite(out_dir)
    stored = dtype or cast(torch.dtype | None, load_config(parent_dir).dtype) or torch.float32
    child = assemble(definition, parent_dir, pieces, dtype=stored)
    save_child(child, parent_dir, out_dir, card, name=definition.name, parent=definition.parent)
