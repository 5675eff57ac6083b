"""Puzzletron's artefacts as this language has them: a parent's shape, what each layer may become, its scores and its costs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.diagnostics import DiagnosticError, Sink
from puzzledsl.importing.artefacts import STATS, Artefacts, read_artefacts, unreadable
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
from puzzledsl.ir.shapes import BadConfig, read_config

FAMILIES = {
    "llama": "llama",
    "mistral_small": "mistral",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
DTYPES = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32", "torch.int8": "int8"}
HEAD_DIMS = range(2, 513, 2)
HIGHER_IS_BETTER = re.compile("accuracy|top_[0-9]|agreement")
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


def read_puzzletron(path: Path, parent: Path | None = None) -> Imported:
    """Read a run. `parent`: the directory of the parent's config.json, where the run does not have it. Raises DiagnosticError."""
    found = read_artefacts(path)
    if not found.stats:
        found.stats = list(_stats_of_gathered(found))
    where = _parent_directory(found, parent)
    teacher = _Teacher.of(found)
    shape = _shape(found, teacher, where)
    naming = _Naming(found.path, shape, teacher)
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
    heads = [entry["args"].get("n_head") for entry in found.stats]
    return next((h for h in heads if isinstance(h, int)), None)


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
        "num_key_value_heads": r"kv_heads[_=](\d+)|num_key_value_heads=(\d+)",
        "n_heads_in_group": r"gqa_(\d+)|n_heads_in_group=(\d+)",
        "intermediate_size": r"intermediate_(\d+)|intermediate_size=(\d+)",
    }
    found = {key: re.search(pattern, text) for key, pattern in keys.items()}
    return {key: int(next(g for g in m.groups() if g)) for key, m in found.items() if m is not None}


def _kv_heads(config: Mapping[str, Any], heads: int | None) -> int | None:
    if isinstance(kv := config.get("num_key_value_heads"), int):
        return kv
    group = config.get("n_heads_in_group")
    return heads // group if isinstance(group, int) and heads and group else None


def _width(config: Mapping[str, Any]) -> int | None:
    width = config.get("intermediate_size")
    return width if isinstance(width, int) else None


def _parent_directory(found: Artefacts, parent: Path | None) -> Path | None:
    """Where the parent's config.json lies; None where it is nowhere to be seen."""
    said = found.args.get("teacher_dir")
    places = [parent, found.path / "ckpts" / "teacher", Path(said) if isinstance(said, str) else None]
    return next((p for p in places if p is not None and (p / "config.json").is_file()), None)


def _shape(found: Artefacts, teacher: _Teacher, where: Path | None) -> Shape:
    """From config.json, else from the sizes that the statistics were made with. Raises DiagnosticError."""
    if where is not None:
        try:
            shape = read_config(where / "config.json")
        except BadConfig as error:
            raise unreadable(where / "config.json", str(error)) from error
        assert shape is not None
        return shape
    args = found.stats[0]["args"] if found.stats else {}
    sizes = {key: args.get(key) for key in ("n_embd", "n_head", "vocab_size")}
    missing = [key for key, value in sizes.items() if not isinstance(value, int)]
    if missing:
        raise DiagnosticError(ShapeOpen(None, path=found.path, missing=", ".join(missing)))
    hidden, heads = int(sizes["n_embd"] or 0), int(sizes["n_head"] or 0)
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
        vocab=int(sizes["vocab_size"] or 0),
        tied=False,
        attention_bias=family == "qwen2",
        qk_norm=family == "qwen3",
    )
    return _with_head_dim(plain, _teacher_attention_params(found, teacher, heads))


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
    teacher: _Teacher
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
        pair = naming.pair(replacement.block)
        if pair is None or not 0 <= replacement.layer < naming.shape.layers:
            continue
        values = {n: _worse(n, v, base.get(n, Decimal(0))) for n, v in replacement.metrics.items()}
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
    wholes = {key: args.get(key) for key in ("batch_size", "prefill_seq_len", "generation_seq_len")}
    for key, value in wholes.items():
        if not isinstance(value, int) or value < 1:
            raise unreadable(path / STATS, f"`{key}` of a measurement is no whole number above 0")
    costs = [_fixed(entry["non_block"])]
    for sub in entry["subblocks"]:
        if isinstance(block := sub.get("block"), dict):
            if (pair := naming.pair(block)) is not None:
                costs.append(_cost(sub, *pair, naming.shape.layers))
            continue
        config = sub.get("subblock_config")
        if not isinstance(config, dict):
            raise unreadable(path / STATS, "a sub-block has no `subblock_config`")
        attention = naming.attention(config) if _is_attention(sub) else None
        ffn = None if _is_attention(sub) else naming.ffn(config)
        if attention is not None or ffn is not None:
            costs.append(_cost(sub, attention, ffn, naming.shape.layers))
    return Measurement(
        _scenario_name(args, names),
        int(wholes["batch_size"] or 1),
        int(wholes["prefill_seq_len"] or 1),
        int(wholes["generation_seq_len"] or 1),
        args,
        tuple(costs),
    )


def _fixed(stats: Mapping[str, Any]) -> SubBlockCost:
    return SubBlockCost(
        None, None, None, None, _number(stats, "memory_mib"), Decimal(0), _number(stats, "runtime_ms")
    )


def _cost(
    sub: Mapping[str, Any], attention: AttentionAlternative | None, ffn: FfnAlternative | None, layers: int
) -> SubBlockCost:
    layer = sub.get("parent_layer_index")
    params = sub.get("num_params")
    return SubBlockCost(
        layer if isinstance(layer, int) and 0 <= layer < layers else None,
        attention,
        ffn,
        params if isinstance(params, int) else None,
        _number(sub, "memory_mib"),
        _number(sub, "kv_cache_memory_mib") or Decimal(0),
        _number(sub, "runtime_ms"),
    )


def _number(stats: Mapping[str, Any], key: str) -> Decimal | None:
    value = stats.get(key)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return Decimal(value)


def _scenario_name(args: Mapping[str, Any], taken: set[str]) -> str:
    """`bf16_96`, `int8_kv_bf16_64`: dtypes and batch, and the lengths where those are not enough."""
    weights, cache = (str(args.get(f"{what}_dtype", "bf16")) for what in ("weights", "kv_cache"))
    weights, cache = DTYPES.get(weights, weights), DTYPES.get(cache, cache)
    dtypes = weights if weights == cache else f"{weights}_kv_{cache}"
    name = re.sub(r"\W+", "_", f"{dtypes}_{args['batch_size']}")
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
