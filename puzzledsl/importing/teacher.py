"""The parent's shape, from its config.json or from the statistics of a Puzzletron run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import impossible, read_config
from puzzledsl.importing.artefacts import Artefacts
from puzzledsl.importing.configs import is_attention, kv_heads_of, part_of, size_of, width_of
from puzzledsl.importing.errors import ShapeOpen
from puzzledsl.importing.reading import unreadable
from puzzledsl.ir.nodes import Shape

FAMILIES = {
    "llama": "llama",
    "mistral_small": "mistral",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
HEAD_DIMS = range(2, 513, 2)
SIZES = ("n_embd", "n_head", "vocab_size")


@dataclass(frozen=True, slots=True)
class _Teacher:
    """Sizes of the parent's sub-blocks, equal in every layer."""

    layers: int
    kv_heads: int
    intermediate: int

    @classmethod
    def of(cls, found: Artefacts) -> _Teacher:
        """Return the sizes of the blocks marked as the teacher's, else the largest ones. Raises DiagnosticError."""
        layers = 1 + max((r.layer for r in found.replacements), default=-1)
        blocks = [r.block for r in found.replacements if r.is_teacher] or [
            r.block for r in found.replacements
        ]
        if not found.replacements:
            raise DiagnosticError(ShapeOpen(None, path=found.path, missing="layers"))
        heads = head_count(found)
        kv = [h for b in blocks if (h := kv_heads_of(part_of(b, "attention"), heads)) is not None]
        widths = [w for b in blocks if (w := width_of(part_of(b, "ffn"))) is not None]
        for entry in found.stats:
            for sub in entry["subblocks"]:
                config = sub.get("subblock_config", {})
                kv += [h for h in [kv_heads_of(config, heads)] if h is not None and is_attention(sub)]
                widths += [w for w in [width_of(config)] if w is not None and not is_attention(sub)]
        for values, what in ((kv, "number of KV heads"), (widths, "FFN width")):
            if not values:
                raise DiagnosticError(ShapeOpen(None, path=found.path, missing=what))
        return cls(layers, max(kv), max(widths))


def head_count(found: Artefacts) -> int | None:
    """Return the parent's query heads; None if no statistics contain them."""
    heads = [size_of(entry["args"], "n_head") for entry in found.stats]
    return next((h for h in heads if h is not None), None)


def parent_directory(found: Artefacts, parent: Path | None) -> Path | None:
    """Return the directory of the parent's config.json; None if it is not found."""
    said = found.args.get("teacher_dir")
    places = [parent, found.path / "ckpts" / "teacher", Path(said) if isinstance(said, str) else None]
    return next((p for p in places if p is not None and (p / "config.json").is_file()), None)


def shape_of_config(path: Path) -> Shape:
    """Return the shape in a config.json. Raises DiagnosticError."""
    try:
        shape = read_config(path)
    except BadConfig as error:
        raise unreadable(path, str(error)) from error
    assert shape is not None
    return shape


def shape_of_statistics(found: Artefacts) -> Shape:
    """Return the shape from the sizes recorded in the statistics. Raises DiagnosticError."""
    teacher = _Teacher.of(found)
    args = found.stats[0]["args"] if found.stats else {}
    hidden, heads, vocab = (size_of(args, key) for key in SIZES)
    if hidden is None or heads is None or vocab is None:
        missing = ", ".join(key for key in SIZES if size_of(args, key) is None)
        raise DiagnosticError(ShapeOpen(None, path=found.path, missing=missing))
    descriptor = str(found.args.get("descriptor", "llama"))
    family = FAMILIES.get(descriptor, "llama")
    plain = Shape(
        family=family,
        layers=teacher.layers,
        hidden=hidden,
        heads=heads,
        kv_heads=teacher.kv_heads,
        head_dim=max(2, hidden // heads),
        intermediate=teacher.intermediate,
        vocab=vocab,
        tied=False,
        attention_bias=family == "qwen2",
        qk_norm=family == "qwen3",
    )
    shape = _with_head_dim(plain, _teacher_attention_params(found, teacher, heads))
    if impossible(shape):
        missing = "number of KV heads" if shape.heads % shape.kv_heads else "head size"
        raise DiagnosticError(ShapeOpen(None, path=found.path, missing=missing))
    return shape


def _teacher_attention_params(found: Artefacts, teacher: _Teacher, heads: int) -> int | None:
    for entry in found.stats:
        for sub in entry["subblocks"]:
            config, params = sub.get("subblock_config", {}), sub.get("num_params")
            if (
                is_attention(sub)
                and kv_heads_of(config, heads) == teacher.kv_heads
                and isinstance(params, int)
            ):
                return params
    return None


def _with_head_dim(shape: Shape, params: int | None) -> Shape:
    """Return the shape with the head_dim that matches the parent's attention parameters; unchanged if none matches."""
    for head_dim in (shape.head_dim, *HEAD_DIMS):
        candidate = shape.model_copy(update={"head_dim": head_dim})
        if params == ParentAttention().params(candidate):
            return candidate
    return shape
