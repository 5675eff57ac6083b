"""Read a Puzzletron run: the parent's shape from its config.json, alternatives of each layer, their scores and costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import read_config
from puzzledsl.importing.imported import (
    STATS,
    Artefacts,
    Imported,
    Measurement,
    Naming,
    NoConfigOfParent,
    Pair,
    SubBlockCost,
    is_number,
    read_artefacts,
    size_of,
    unreadable,
)
from puzzledsl.ir.nodes import Shape


def parent_directory(found: Artefacts, parent: Path | None) -> Path:
    """Return the directory of the parent's config.json. Raises DiagnosticError."""
    said = found.args.get("teacher_dir")
    places = [parent, found.path / "ckpts" / "teacher", Path(said) if isinstance(said, str) else None]
    for place in places:
        if place is not None and (place / "config.json").is_file():
            return place
    raise DiagnosticError(NoConfigOfParent(None, path=found.path))


def shape_of_config(path: Path) -> Shape:
    """Return the shape in a config.json. Raises DiagnosticError."""
    try:
        shape = read_config(path)
    except BadConfig as error:
        raise unreadable(path, str(error)) from error
    assert shape is not None
    return shape


CACHE = "kv_cache[MiB]"
FIGURES = {"memory[MiB]": "memory_mib", CACHE: "kv_cache_memory_mib", "latency[ms]": "runtime_ms"}
"""Column of `costs.csv` -> field of a run's statistics."""
DTYPES = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32", "torch.int8": "int8"}


def measurement_of(path: Path, entry: Mapping[str, Any], naming: Naming, names: set[str]) -> Measurement:
    """One entry of `subblock_stats.json`."""
    args = entry["args"]
    batch, prompt, output = (
        _whole(path, args, key) for key in ("batch_size", "prefill_seq_len", "generation_seq_len")
    )
    none = Decimal(0)
    costs = [SubBlockCost(None, None, None, None, _figures(entry["non_block"]) | {CACHE: none})]
    for sub in entry["subblocks"]:
        config, layer, figures, params = (
            sub["subblock_config"],
            _layer(sub, naming),
            _figures(sub),
            sub.get("num_params"),
        )
        attention = ffn = None
        if sub.get("subblock_config_class") == "AttentionConfig":
            attention = naming.attention(config, layer)
        else:
            ffn, figures = naming.ffn(config, layer), {CACHE: none} | figures
        if attention is not None or ffn is not None:
            costs.append(
                SubBlockCost(layer, attention, ffn, params if isinstance(params, int) else None, figures)
            )
    return Measurement(_scenario_name(args, names), batch, prompt, output, args, tuple(costs))


def _whole(path: Path, args: Mapping[str, Any], key: str) -> int:
    value = size_of(args, key)
    if value is None:
        raise unreadable(path / STATS, f"`{key}` of a measurement is no whole number above 0")
    return value


def _layer(sub: Mapping[str, Any], naming: Naming) -> int | None:
    """Return the measured layer; None (every layer) if the tool gives none or -1."""
    layers = naming.shape.layers
    match sub.get("parent_layer_index"):
        case None | -1:
            return None
        case int(layer) if 0 <= layer < layers:
            return layer
        case other:
            reason = f"a sub-block is of layer {str(other)[:20]}; the parent has {layers} layers"
            raise unreadable(naming.path / STATS, reason)


def _figures(stats: Mapping[str, Any]) -> dict[str, Decimal]:
    """Return the figures that are there, by columns of `costs.csv`."""
    found = {column: stats.get(key) for column, key in FIGURES.items()}
    return {c: Decimal(v) for c, v in found.items() if is_number(v) and Decimal(v).is_finite()}


def _scenario_name(args: Mapping[str, Any], taken: set[str]) -> str:
    """Return a name such as `bf16_96` or `int8_kv_bf16_64`: dtypes and batch size, and the lengths if needed for uniqueness."""
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


HIGHER_IS_BETTER = re.compile("accuracy|top_[0-9]|agreement")
NOT_ZERO_AT_THE_PARENT = re.compile(rf"lm_loss|perplexity|{HIGHER_IS_BETTER.pattern}")


def read_puzzletron(path: Path, parent: Path | None = None) -> Imported:
    """Read a run. `parent`: the directory of the parent's config.json if the run lacks it. Raises DiagnosticError."""
    found = read_artefacts(path)
    where = parent_directory(found, parent)
    shape = shape_of_config(where / "config.json")
    naming = Naming(found.path, shape)
    imported = Imported(
        found.path, shape, where, [{} for _ in range(shape.layers)], solutions=found.solutions
    )
    _scores(found, naming, imported)
    names: set[str] = set()
    imported.measurements = [measurement_of(found.path, entry, naming, names) for entry in found.stats]
    if naming.sink.has_errors:
        raise DiagnosticError(*naming.sink.sorted())
    return imported


def _scores(found: Artefacts, naming: Naming, imported: Imported) -> None:
    """Collect the degradation by each replacement relative to the parent; for an accuracy, too, higher is worse."""
    own: Pair = (ParentAttention(), ParentFfn())
    base = dict(found.teacher_metrics)
    for replacement in found.replacements:
        if naming.pair(replacement.block, replacement.layer) == own:
            base.update(replacement.metrics)
            break
    for replacement in found.replacements:
        if replacement.layer >= naming.shape.layers:
            reason = f"layer {replacement.layer} is replaced; the parent has {naming.shape.layers} layers"
            raise unreadable(found.path, reason)
        pair = naming.pair(replacement.block, replacement.layer)
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
    """Return the metric's distance from the parent's, signed so that higher is worse."""
    if not value.is_finite() or not parent.is_finite():
        return Decimal("nan")
    return parent - value if HIGHER_IS_BETTER.search(metric) else value - parent
