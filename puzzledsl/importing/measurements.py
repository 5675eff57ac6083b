"""Convert Puzzletron's sub-block statistics to measurements of scenarios."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.importing.artefacts import STATS, Artefacts
from puzzledsl.importing.configs import is_attention, part_of, size_of
from puzzledsl.importing.imported import Measurement, SubBlockCost
from puzzledsl.importing.naming import Naming
from puzzledsl.importing.reading import Replacement, is_number, unreadable

DTYPES = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32", "torch.int8": "int8"}
GATHERED = ("memory_mib", "kv_cache_memory_mib", "runtime_ms", "num_params")


def measurement_of(path: Path, entry: Mapping[str, Any], naming: Naming, names: set[str]) -> Measurement:
    """One entry of `subblock_stats.json`."""
    args = entry["args"]
    batch, prompt, output = (
        _whole(path, args, key) for key in ("batch_size", "prefill_seq_len", "generation_seq_len")
    )
    costs = [_fixed(entry["non_block"])]
    for sub in entry["subblocks"]:
        if isinstance(block := sub.get("block"), dict):
            if (pair := naming.pair(block, _layer(sub, naming))) is not None:
                costs.append(_cost(sub, *pair, naming))
            continue
        config = sub["subblock_config"]
        layer = _layer(sub, naming)
        attention = naming.attention(config, layer) if is_attention(sub) else None
        ffn = None if is_attention(sub) else naming.ffn(config, layer)
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
    value = size_of(args, key)
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
    naming: Naming,
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


def _number(stats: Mapping[str, Any], key: str) -> Decimal | None:
    """Return a figure; None if it is absent or not a number."""
    value = stats.get(key)
    return Decimal(value) if is_number(value) and Decimal(value).is_finite() else None


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


def stats_of_gathered(found: Artefacts) -> Iterator[Mapping[str, Any]]:
    """Yield statistics that were gathered with the metrics, as one measurement, if there are any."""
    sub_blocks: dict[str, dict[str, Any]] = {}
    for replacement in found.replacements:
        for config, entry in _gathered_entries(replacement):
            sub_blocks[f"{replacement.layer} {config}"] = entry
    if sub_blocks:
        yield {
            "args": _gathered_args(found.measured_at),
            "non_block": {"memory_mib": 0, "runtime_ms": 0},
            "subblocks": list(sub_blocks.values()),
        }


def _gathered_entries(replacement: Replacement) -> Iterator[tuple[str, dict[str, Any]]]:
    """The costs of both sub-blocks, and those of the block where they are not the sum; each with what it is of."""
    layer, stats, block = replacement.layer, replacement.stats, replacement.block
    sums: dict[str, Decimal] = {}
    for part, kind in (("attention", "AttentionConfig"), ("ffn", "FFNConfig")):
        own = {key: stats[f"{part}_{key}"] for key in GATHERED if f"{part}_{key}" in stats}
        if own:
            config = part_of(block, part)
            sums |= {k: sums.get(k, Decimal(0)) + v for k in own if (v := _number(own, k)) is not None}
            entry = {"subblock_config": config, "subblock_config_class": kind, "parent_layer_index": layer}
            yield f"{kind} {sorted(config.items(), key=str)}", {**entry, **own}
    whole = {key: stats[key] for key in GATHERED if key in stats}
    measured = {k: v for k in whole if (v := _number(whole, k)) is not None}
    if any(sums.get(key) != value for key, value in measured.items()):
        yield str(block), {"block": block, "parent_layer_index": layer, **sums, **whole}


def _gathered_args(measured_at: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement's arguments. All tokens of a sequence count as generated, as they do in the tool's own throughput."""
    dtype = str(measured_at.get("dtype", "gathered"))
    return {
        "batch_size": measured_at.get("batch_size", 1),
        "prefill_seq_len": 1,
        "generation_seq_len": measured_at.get("sequence_length", 1),
        "weights_dtype": dtype,
        "kv_cache_dtype": dtype,
    }
