"""Definition of a child: its alternatives and the pieces that hold their weights."""

from __future__ import annotations

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact


class LayerDefinition(Frozen):
    """One layer of a child. A piece is a job id of the library; None for parent and noop."""

    attention: AttentionAlternative
    ffn: FfnAlternative
    attention_piece: str | None = None
    ffn_piece: str | None = None
    block_piece: str | None = None  # coupled: holds both


class ModelDefinition(Artefact):
    """`build/models/SEARCH/definition.json`: all that is needed to assemble a child."""

    name: str
    search: str
    parent: str
    layers: tuple[LayerDefinition, ...]
