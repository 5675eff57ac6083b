"""Puzzletron's artefacts as this language has them: a parent's shape, what each layer may become, its scores and its costs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.diagnostics import DiagnosticError, Sink
from puzzledsl.importing.artefacts import STATS, Artefacts, is_number, read_artefacts, unreadable
from puzzledsl.importing.errors import NotInTheLanguage, ShapeOpen
from puzzledsl.ir.alternatives import (
    AttentionAlternative,
    FfnAlternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
)
from puzzledsl.ir.facts import attention_params
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.shapes import MAX_SIZE, BadConfig, impossible, read_config

FAMILIES = {
    "llama": "llama",
    "mistral_small": "mistral",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
DTYPES = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32", "torch.int8": "int8"}
HEAD_DIMS = range(2, 513, 2)
SIZES = ("n_embd", "n_head", "vocab_size")
HIGHER_IS_BETTER = re.compile("accuracy|top_[0-9]|agreement")
NOT_ZERO_AT_THE_PARENT = re.compile(rf"lm_loss|perplexity|{HIGHER_IS_BETTER.pattern}")
GATHERED = ("memory_mib", "kv_cache_memory_mib", "runtime_ms", "num_params")
Pair = tuple[AttentionAlternative, FfnAlternative]


@dataclass(frozen=True, slots=True)
class SubBlockCost:
    """What one sub-block (or, without both, the part no layer changes) costs in one measurement. `layer` None: in every layer."""

    layer: int | None
    attention: AttentionAlternative | None
    ffn: FfnAlternative | None
    params: int | None
    memory_mib: Decimal | None
    kv_cache_mib: Decimal | None
    latency_ms: Decimal | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One scenario: `name` is an identifier; lengths in tokens."""

    name: str
    batch: int
    prompt: int
    output: int
    args: Mapping[str, Any]
    costs: tuple[SubBlockCost, ...]


@dataclass(slots=True)
class Imported:
    """All of a run. `scores[metric][layer, attention, ffn]` is how much worse the parent gets (0 for the parent's own blocks)."""

    source: Path
    shape: Shape
    parent: Path | None
    layers: list[dict[Pair, None]]
    scores: dict[str, dict[tuple[int, Pair], Decimal]] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    solutions: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    left_out: int = 0  # replacements whose metrics are not finite
    unanchored: dict[str, None] = field(
        default_factory=dict
    )  # metrics left out, the parent's own being unknown


def read_puzzletron(path: Path, parent: Path | None = None) -> Imported:
    """Read a run. `parent`: the directory of the parent's config.json, where the run does not have it. Raises DiagnosticError."""
    found = read_artefacts(path)
    if not found.stats:
        found.stats = list(_stats_of_gathered(found))
    where = _parent_directory(found, parent)
    shape = _shape_of_statistics(found) if where is None else _shape_of_config(where / "config.json")
    naming = _Naming(found.path, shape)
    imported = Imported(
        found.path, shape, where, [{} for _ in range(shape.layers)], solutions=found.solutions
    )
    _scores(found, naming, imported)
    names: set[str] = set()
    imported.measurements = [_measurement(found.path, entry, naming, names) for entry in found.stats]
    if naming.sink.has_errors:
        raise DiagnosticError(*naming.sink.sorted())
    return imported


# ---------------------------------------------------------------- the parent


@dataclass(frozen=True, slots=True)
class _Teacher:
    """The parent's own sub-blocks: the same in every layer."""

    layers: int
    kv_heads: int
    intermediate: int

    @classmethod
    def of(cls, found: Artefacts) -> _Teacher:
        """What the artefacts call the teacher's, else the largest of what they have. Raises DiagnosticError."""
        layers = 1 + max((r.layer for r in found.replacements), default=-1)
        blocks = [r.block for r in found.replacements if r.is_teacher] or [
            r.block for r in found.replacements
        ]
        if not found.replacements:
            raise DiagnosticError(ShapeOpen(None, path=found.path, missing="layers"))
        heads = _head_count(found)
        kv = [h for b in blocks if (h := _kv_heads(_part(b, "attention"), heads)) is not None]
        widths = [w for b in blocks if (w := _width(_part(b, "ffn"))) is not None]
        for entry in found.stats:
            for sub in entry["subblocks"]:
                config = sub.get("subblock_config", {})
                kv += [h for h in [_kv_heads(config, heads)] if h is not None and _is_attention(sub)]
                widths += [w for w in [_width(config)] if w is not None and not _is_attention(sub)]
        for values, what in ((kv, "number of KV heads"), (widths, "FFN width")):
            if not values:
                raise DiagnosticError(ShapeOpen(None, path=found.path, missing=what))
        return cls(layers, max(kv), max(widths))


def _is_attention(sub: Mapping[str, Any]) -> bool:
    return bool(sub.get("subblock_config_class") == "AttentionConfig")


def _head_count(found: Artefacts) -> int | None:
    heads = [_size(entry["args"], "n_head") for entry in found.stats]
    return next((h for h in heads if h is not None), None)


def _part(block: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """A block's attention or FFN configuration, read from the option's name where that is all there is."""
    config = block.get(part)
    if isinstance(config, dict):
        return config
    name = str(block.get("name", ""))
    before, _, after = re.sub(r"\s+", " ", name).partition("ffn")
    text = before if part == "attention" else after
    if re.search(r"no_?op(=True)?\b", text) and "no_op=False" not in text:
        return {"no_op": True}
    if re.search(r"\blinear\b|replace_with_linear=True", text):
        return {"replace_with_linear": True}
    keys = {
        "num_key_value_heads": r"(?:kv|key_value)_heads[_=]([0-9]{1,9})\b",
        "n_heads_in_group": r"(?:gqa_|n_heads_in_group=)([0-9]{1,9})\b",
        "intermediate_size": r"intermediate_(?:size=)?([0-9]{1,9})\b",
    }
    found = {key: re.search(pattern, text) for key, pattern in keys.items()}
    return {key: int(m.group(1)) for key, m in found.items() if m is not None}


def _kv_heads(config: Mapping[str, Any], heads: int | None) -> int | None:
    if (kv := _size(config, "num_key_value_heads")) is not None:
        return kv
    group = _size(config, "n_heads_in_group")
    return None if heads is None or group is None or heads % group else heads // group


def _width(config: Mapping[str, Any]) -> int | None:
    return _size(config, "intermediate_size")


def _size(sizes: Mapping[str, Any], key: str) -> int | None:
    """A size that a model may have."""
    value = sizes.get(key)
    return value if type(value) is int and 1 <= value <= MAX_SIZE else None


def _parent_directory(found: Artefacts, parent: Path | None) -> Path | None:
    """Where the parent's config.json lies; None where it is nowhere to be seen."""
    said = found.args.get("teacher_dir")
    places = [parent, found.path / "ckpts" / "teacher", Path(said) if isinstance(said, str) else None]
    return next((p for p in places if p is not None and (p / "config.json").is_file()), None)


def _shape_of_config(path: Path) -> Shape:
    """Raises DiagnosticError."""
    try:
        shape = read_config(path)
    except BadConfig as error:
        raise unreadable(path, str(error)) from error
    assert shape is not None
    return shape


def _shape_of_statistics(found: Artefacts) -> Shape:
    """From the sizes that the statistics were made with. Raises DiagnosticError."""
    teacher = _Teacher.of(found)
    args = found.stats[0]["args"] if found.stats else {}
    hidden, heads, vocab = (_size(args, key) for key in SIZES)
    if hidden is None or heads is None or vocab is None:
        missing = ", ".join(key for key in SIZES if _size(args, key) is None)
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
                _is_attention(sub)
                and _kv_heads(config, heads) == teacher.kv_heads
                and isinstance(params, int)
            ):
                return params
    return None


def _with_head_dim(shape: Shape, params: int | None) -> Shape:
    """The head size that explains the parent's attention parameters; hidden / heads where none does."""
    for head_dim in (shape.head_dim, *HEAD_DIMS):
        candidate = shape.model_copy(update={"head_dim": head_dim})
        if params == attention_params(candidate, shape.kv_heads):
            return candidate
    return shape


# ---------------------------------------------------------------- alternatives


@dataclass(slots=True)
class _Naming:
    """Configurations to alternatives. What has no words here goes to `sink`, each kind once."""

    path: Path
    shape: Shape
    sink: Sink = field(default_factory=Sink)

    def pair(self, block: Mapping[str, Any]) -> Pair | None:
        """A block; None (reported) for one that this language cannot say."""
        if block.get("parallel_blocks"):
            self._cannot("a block of parallel blocks")
            return None
        attention, ffn = self.attention(_part(block, "attention")), self.ffn(_part(block, "ffn"))
        return None if attention is None or ffn is None else (attention, ffn)

    def attention(self, config: Mapping[str, Any]) -> AttentionAlternative | None:
        """An attention configuration."""
        if config.get("no_op"):
            return NoOpAttention()
        if config.get("replace_with_linear"):
            return LinearAttention()
        for kind in ("mamba", "llama4"):
            if config.get(kind):
                self._cannot(f"a {kind} attention")
                return None
        heads = _kv_heads(config, self.shape.heads)
        if heads is None or self.shape.heads % heads:
            self._cannot("an attention without KV heads" if heads is None else f"{heads} KV heads")
            return None
        return ParentAttention() if heads == self.shape.kv_heads else GqaAttention(kv_heads=heads)

    def ffn(self, config: Mapping[str, Any]) -> FfnAlternative | None:
        """An FFN configuration."""
        if config.get("no_op"):
            return NoOpFfn()
        if config.get("replace_with_linear"):
            return LinearFfn()
        if config.get("moe"):
            self._cannot("a mixture of experts")
            return None
        width = _width(config)
        if width is None:
            self._cannot("an FFN without a width")
            return None
        return ParentFfn() if width == self.shape.intermediate else MlpFfn(width=width)

    def _cannot(self, what: str) -> None:
        self.sink.add(NotInTheLanguage(None, what=what, path=self.path))


# ---------------------------------------------------------------- scores


def _scores(found: Artefacts, naming: _Naming, imported: Imported) -> None:
    """How much each replacement costs, against the parent: higher is worse, also of an accuracy."""
    own: Pair = (ParentAttention(), ParentFfn())
    base = dict(found.teacher_metrics)
    for replacement in found.replacements:
        if naming.pair(replacement.block) == own:
            base.update(replacement.metrics)
            break
    for replacement in found.replacements:
        if replacement.layer >= naming.shape.layers:
            reason = f"layer {replacement.layer} is replaced; the parent has {naming.shape.layers} layers"
            raise unreadable(found.path, reason)
        pair = naming.pair(replacement.block)
        if pair is None:
            continue
        open_ = [n for n in replacement.metrics if n not in base and NOT_ZERO_AT_THE_PARENT.search(n)]
        imported.unanchored |= dict.fromkeys(open_)
        values = {
            n: _worse(n, v, base.get(n, Decimal(0))) for n, v in replacement.metrics.items() if n not in open_
        }
        if not all(v.is_finite() for v in values.values()):
            imported.left_out += 1
            continue
        imported.layers[replacement.layer][pair] = None
        if pair != own:
            for name, value in values.items():
                imported.scores.setdefault(name, {})[replacement.layer, pair] = value
    for layer in imported.layers:
        layer[own] = None


def _worse(metric: str, value: Decimal, parent: Decimal) -> Decimal:
    """The metric's distance from the parent's, so that higher is worse."""
    if not value.is_finite() or not parent.is_finite():
        return Decimal("nan")
    return parent - value if HIGHER_IS_BETTER.search(metric) else value - parent


# ---------------------------------------------------------------- costs


def _measurement(path: Path, entry: Mapping[str, Any], naming: _Naming, names: set[str]) -> Measurement:
    """One entry of `subblock_stats.json`."""
    args = entry["args"]
    batch, prompt, output = (
        _whole(path, args, key) for key in ("batch_size", "prefill_seq_len", "generation_seq_len")
    )
    costs = [_fixed(entry["non_block"])]
    for sub in entry["subblocks"]:
        if isinstance(block := sub.get("block"), dict):
            if (pair := naming.pair(block)) is not None:
                costs.append(_cost(sub, *pair, naming))
            continue
        config = sub["subblock_config"]
        attention = naming.attention(config) if _is_attention(sub) else None
        ffn = None if _is_attention(sub) else naming.ffn(config)
        if attention is not None or ffn is not None:
            costs.append(_cost(sub, attention, ffn, naming))
    return Measurement(
        _scenario_name(args, names),
        batch,
        prompt,
        output,
        args,
        tuple(costs),
    )


def _whole(path: Path, args: Mapping[str, Any], key: str) -> int:
    value = _size(args, key)
    if value is None:
        raise unreadable(path / STATS, f"`{key}` of a measurement is no whole number above 0")
    return value


def _fixed(stats: Mapping[str, Any]) -> SubBlockCost:
    return SubBlockCost(
        None, None, None, None, _number(stats, "memory_mib"), Decimal(0), _number(stats, "runtime_ms")
    )


def _cost(
    sub: Mapping[str, Any],
    attention: AttentionAlternative | None,
    ffn: FfnAlternative | None,
    naming: _Naming,
) -> SubBlockCost:
    params = sub.get("num_params")
    cache = _number(sub, "kv_cache_memory_mib")
    return SubBlockCost(
        _layer(sub, naming),
        attention,
        ffn,
        params if isinstance(params, int) else None,
        _number(sub, "memory_mib"),
        Decimal(0) if cache is None and attention is None else cache,
        _number(sub, "runtime_ms"),
    )


def _layer(sub: Mapping[str, Any], naming: _Naming) -> int | None:
    """The layer that was measured; None, of every layer, where the tool has none or -1."""
    layers = naming.shape.layers
    match sub.get("parent_layer_index"):
        case None | -1:
            return None
        case int(layer) if 0 <= layer < layers:
            return layer
        case other:
            reason = f"a sub-block is of layer {str(other)[:20]}; the parent has {layers} layers"
            raise unreadable(naming.path / STATS, reason)


def _number(stats: Mapping[str, Any], key: str) -> Decimal | None:
    """A figure; None where there is none, or one that is no number at all."""
    value = stats.get(key)
    return Decimal(value) if is_number(value) and Decimal(value).is_finite() else None


def _scenario_name(args: Mapping[str, Any], taken: set[str]) -> str:
    """`bf16_96`, `int8_kv_bf16_64`: dtypes and batch, and the lengths where those are not enough."""
    weights, cache = (str(args.get(f"{what}_dtype", "bf16")) for what in ("weights", "kv_cache"))
    weights, cache = DTYPES.get(weights, weights), DTYPES.get(cache, cache)
    dtypes = weights if weights == cache else f"{weights}_kv_{cache}"
    name = re.sub(r"[^A-Za-z0-9]+", "_", f"{dtypes}_{args['batch_size']}")
    if name[0].isdigit():
        name = f"at_{name}"
    lengths = f"{name}_{args['prefill_seq_len']}_{args['generation_seq_len']}"
    name = name if name not in taken else lengths
    while name in taken:
        name += "_again"
    taken.add(name)
    return name


def _stats_of_gathered(found: Artefacts) -> Iterator[Mapping[str, Any]]:
    """Statistics that were gathered with the metrics, as one measurement; nothing where there are none."""
    sub_blocks: dict[str, dict[str, Any]] = {}
    for replacement in found.replacements:
        layer, stats = replacement.layer, replacement.stats
        for part, kind in (("attention", "AttentionConfig"), ("ffn", "FFNConfig")):
            config = _part(replacement.block, part)
            own = {key: stats[f"{part}_{key}"] for key in GATHERED if f"{part}_{key}" in stats}
            if own:
                entry = {
                    "subblock_config": config,
                    "subblock_config_class": kind,
                    "parent_layer_index": layer,
                    **own,
                }
                sub_blocks[f"{layer} {kind} {sorted(config.items(), key=str)}"] = entry
        whole = {key: stats[key] for key in GATHERED if key in stats}
        if whole and not any(f"attention_{key}" in stats for key in GATHERED):
            block = replacement.block
            sub_blocks[f"{layer} {block}"] = {"block": block, "parent_layer_index": layer, **whole}
    if sub_blocks:
        args = {"batch_size": 1, "prefill_seq_len": 1, "generation_seq_len": 1, "weights_dtype": "gathered"}
        args["kv_cache_dtype"] = "gathered"
        yield {
            "args": args,
            "non_block": {"memory_mib": 0, "runtime_ms": 0},
            "subblocks": list(sub_blocks.values()),
        }
