"""Exact rewriting of a child into alternatives that a runtime has.

Every number that it multiplies by is zero, one, or 32 * 1/32. Each alternative lists its rewritings as data; this file
implements them. Shapes: H hidden, N query heads, D head_dim, F intermediate width.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, assert_never, cast

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.alternatives.precision import KV, CacheName, ServedCaches
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.shape import LAYER_FIELDS, Shape
from puzzledsl.alternatives.support import Absent, Architecture, Lowered
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.definition import RuntimeLacksFamily, RuntimeLacksIt, RuntimeLacksWindow
from puzzledsl.families.family import Part
from puzzledsl.families.registry import FAMILIES, computation_of_config
from puzzledsl.ir.engines import Runtime
from puzzledsl.ir.runtimes import fit, zero_attention
from puzzledsl.models.families.tensors import LazyTensor

GATE = 32.0
"""Gate value: silu(32) rounds to 32 in every dtype (its relative error is 1e-14), and 32 * (1/32) is exactly 1."""
ATTENTION = Part("self_attn", "input_layernorm", pair=True)
FFN = Part("mlp", "post_attention_layernorm")
"""The parts of the layers that are rewritten."""

WINDOW_KEYS = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
"""Keys of config.json that give a parent its windows."""

Weights = dict[str, LazyTensor]


class _Layer(Record):
    """One layer during rewriting: the parent's shape of it, and weights by their names inside the layer."""

    own: Shape
    attention: AttentionAlternative
    ffn: FfnAlternative
    weights: Weights


def choose(child: ChildFiles, runtime: Runtime) -> Architecture:
    """Return the architecture that runs the child. Raises DiagnosticError with everything that it cannot represent."""
    choices, computation = [((a,), (f,)) for a, f in child.layers], computation_of_config(child.content)
    found = fit(runtime, _with_short_windows(child), choices, computation)
    said: list[Diagnostic] = [
        RuntimeLacksFamily(None, runtime=runtime.title, family=child.shape.family, reason=answer.reason)
        for _, answer in found.model
        if isinstance(answer, Absent)
    ]
    common: dict[str, Any]
    for lack in found.lacks:
        if isinstance(lack.support, Absent):
            layers = layers_in_words(list(lack.layers))
            common = {"runtime": runtime.title, "layers": layers, "reason": lack.support.reason}
            window = child.shape.at(lack.layers[0]).window
            if isinstance(lack.alternative, ParentAttention) and window is not None:
                said.append(RuntimeLacksWindow(None, window=window, **common))
            else:
                said.append(RuntimeLacksIt(None, name=lack.alternative.name, **common))
    caches = [cache for cache in caches_of(child) if cache is not None]
    if runtime.one_cache and len({*caches_of(child)}) > 1 and not said:
        layers = layers_in_words([i for i, (a, _) in enumerate(child.layers) if a.cache is not None])
        common = {"runtime": runtime.title, "layers": layers}
        reason = "all its layers have one type of a KV cache"
        said.append(RuntimeLacksIt(None, name=f"{KV}{caches[0]}", reason=reason, **common))
    if said:
        raise DiagnosticError(*said)
    return found.architecture


def caches_of(child: ChildFiles) -> list[CacheName | None]:
    """Return the type of each KV cache of a child (None: the runtime's usual one), for the layers that have a cache."""
    parts = zip(child.layers, child.sub_blocks, strict=True)
    return [attention.cache for (attention, _), (own, _) in parts if own.cached_heads]


def served_caches(child: ChildFiles, runtime: Runtime) -> ServedCaches:
    """Return the types of KV caches to tell a runtime; none if it runs our code, which knows them. Raises as `choose` does."""
    engine = choose(child, runtime)
    cache = next((cache for cache in caches_of(child) if cache is not None), None)
    if cache is None or engine.own_modules:
        return ServedCaches(runtime.name)
    lowered = lower(child, engine)
    cached = [index for index, (own, _) in enumerate(lowered.sub_blocks) if own.cached_heads]
    numbers = range(len(cached)) if engine.grouped else cached
    kept = (number for number, of in zip(numbers, caches_of(lowered), strict=True) if of is None)
    return ServedCaches(runtime.name, cache, () if runtime.one_cache else tuple(kept))


def lower(child: ChildFiles, engine: Architecture) -> ChildFiles:
    """Return the child rewritten for the architecture that `choose` found."""
    if engine.as_family is not None and child.shape.family != engine.as_family:
        child = as_family(child, engine.as_family)
    if child.shape.tied and isinstance(engine.tied, Lowered):
        child = untied(child)
    each = [(a, own) for own, pair in zip(child.shape.each, child.layers, strict=True) for a in pair]
    answers = [alternative.support(engine, own, first=False) for alternative, own in each]
    if any(isinstance(a, Lowered) and a.way in ("biased_ffn", "extra_layer") for a in answers):
        child = with_ffn_biases(child)
    zeros = _Zeros(child.shape, child.dtype)
    layers: list[_Layer] = []
    for layer in split(child):
        if engine.drops_empty_layers and _is_empty(layer):
            continue
        layers += _lowered(layer, engine, zeros, first=not layers)
    has_attention = any(isinstance(layer.attention, ParentAttention | GqaAttention) for layer in layers)
    if engine.needs_attention and not has_attention:
        layers.append(_idle(engine, zeros))
    child = joined(child, layers)
    if isinstance(engine.width, Lowered):
        widest = max((layer.ffn.alone(layer.own).channels for layer in layers if _is_dense(layer)), default=0)
        child = pad_widths(child, lambda _: widest)
    return child


def windows(child: ChildFiles) -> list[int | None]:
    """Return each layer's window, the shorter of its alternative's and the parent layer's; None if no window cuts a sequence."""
    shape = _with_short_windows(child)
    return [attention.alone(shape.at(layer)).attended for layer, (attention, _) in enumerate(child.layers)]


def _with_short_windows(child: ChildFiles) -> Shape:
    """Return the shape without windows that are as long as the parent's longest sequence."""
    shape, longest = child.shape, cast(Any, child.config).max_position_embeddings
    groups = tuple(
        group.model_copy(update={"window": None})
        if (group.changes().get("window") or 0) >= longest
        else group
        for group in shape.by_layer
    )
    window = None if (shape.window or 0) >= longest else shape.window
    return shape.model_copy(update={"window": window, "by_layer": groups})


def as_family(child: ChildFiles, family: Literal["llama", "qwen2"]) -> ChildFiles:
    """Convert a Llama, Mistral or Qwen2 child to another of these, with zeros for biases that Qwen2, or Llama's output, has."""
    biased = child.shape.attention_bias or family == "qwen2"
    output = biased and family == "llama"
    shape = child.shape.model_copy(
        update={"family": family, "attention_bias": biased, "output_bias": output, "mlp_bias": False}
    )
    content = {key: value for key, value in child.content.items() if key not in WINDOW_KEYS}
    content |= {"attention_bias": biased, "mlp_bias": False, "head_dim": shape.head_dim}
    return _with_zeros(
        _with(child, shape, content),
        lambda layer: {
            f"{ATTENTION.module}.{name}": w.shape for name, w in layer.attention.weights(shape).items()
        },
    )


def untied(child: ChildFiles) -> ChildFiles:
    """Give the child an output matrix of its own: a copy of the embedding."""
    family = FAMILIES[child.shape.family]
    shape = child.shape.model_copy(update={"tied": False})
    copy = {f"{family.head}.weight": child.weights[f"{family.embedding}.weight"]}
    tied = _with(child, shape, child.content | {"tie_word_embeddings": False})
    return replace(tied, weights=child.weights | copy)


def with_ffn_biases(child: ChildFiles) -> ChildFiles:
    """Add a zero bias to every FFN: a runtime has biases in all FFNs or in none."""
    if child.shape.mlp_bias:
        return child
    shape = child.shape.model_copy(update={"mlp_bias": True})
    return _with_zeros(
        _with(child, shape, child.content | {"mlp_bias": True}),
        lambda layer: {
            f"{FFN.module}.{name}": weight.shape
            for name, weight in (layer.ffn.weights(layer.own).items() if _is_dense(layer) else ())
        },
    )


def with_linear_biases(child: ChildFiles) -> ChildFiles:
    """Add a zero bias to linear sub-blocks of a child whose attentions, or FFNs, have biases, as mlx-lm requires."""
    flags: dict[type, bool] = {LinearAttention: child.shape.attention_bias, LinearFfn: child.shape.mlp_bias}
    return _with_zeros(
        child,
        lambda layer: {
            f"{part.module}.linear.bias": (child.shape.hidden,)
            for part, alternative in ((ATTENTION, layer.attention), (FFN, layer.ffn))
            if flags.get(type(alternative))
        },
    )


def _with_zeros(child: ChildFiles, wanted: Callable[[_Layer], Mapping[str, tuple[int, ...]]]) -> ChildFiles:
    """Return the child with zeros for those of the wanted weights that a layer lacks, by their names inside the layer."""
    zeros, layers = _Zeros(child.shape, child.dtype), []
    for layer in split(child):
        made = {name: zeros(*size) for name, size in wanted(layer).items() if name not in layer.weights}
        layers.append(replace(layer, weights=layer.weights | made))
    return joined(child, layers)


def pad_widths(
    child: ChildFiles, wanted: Callable[[int], int], *, quantised_only: bool = False
) -> ChildFiles:
    """Pad each dense FFN (`quantised_only`: each quantised one) with zero channels to `wanted(width)`."""
    layers = []
    for layer in split(child):
        width, kept = layer.ffn.alone(layer.own).channels, quantised_only and layer.ffn.dtype is None
        room = wanted(width) - width if _is_dense(layer) and not kept else 0
        if room:
            weights = dict(layer.weights)
            for name, dim in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
                weights[f"mlp.{name}.weight"] = _padded(weights[f"mlp.{name}.weight"], dim, room)
                if dim == 0 and f"mlp.{name}.bias" in weights:
                    weights[f"mlp.{name}.bias"] = _padded(weights[f"mlp.{name}.bias"], 0, room)
            padded = MlpFfn(width=width + room, dtype=layer.ffn.dtype)
            layer = replace(layer, ffn=padded, weights=weights)
        layers.append(layer)
    return joined(child, layers)


def multiple_of(size: int) -> Callable[[int], int]:
    """Return the function that rounds a width up to a multiple."""
    return lambda width: width + -width % size


def split(child: ChildFiles) -> list[_Layer]:
    """Split a child into its layers, each with its weights."""
    prefix = f"{FAMILIES[child.shape.family].layers}."
    found: list[Weights] = [{} for _ in child.layers]
    for name, weight in child.weights.items():
        if name.startswith(prefix):
            index, _, own = name.removeprefix(prefix).partition(".")
            found[int(index)][own] = weight
    layers = zip(child.shape.each, child.layers, found, strict=True)
    return [_Layer(own, attention, ffn, weights) for own, (attention, ffn), weights in layers]


def joined(child: ChildFiles, layers: list[_Layer]) -> ChildFiles:
    """Return the child with these layers in place of its own."""
    family = FAMILIES[child.shape.family]
    others = {k: w for k, w in child.weights.items() if not k.startswith(f"{family.layers}.")}
    embedding = f"{family.embedding}.weight"
    weights: Weights = {embedding: others.pop(embedding)}
    for index, layer in enumerate(layers):
        weights |= {f"{family.layers}.{index}.{own}": tensor for own, tensor in layer.weights.items()}
    weights |= others
    shape = child.shape.with_layers([{f: getattr(each.own, f) for f in LAYER_FIELDS} for each in layers])
    content = child.content | {"num_hidden_layers": len(layers)}
    alternatives = tuple((layer.attention, layer.ffn) for layer in layers)
    return replace(_with(child, shape, content), layers=alternatives, weights=weights)


def _with(child: ChildFiles, shape: Shape, content: Mapping[str, Any]) -> ChildFiles:
    content = dict(content) | {"model_type": shape.family}
    if len(content.get("layer_types") or ()) != content.get("num_hidden_layers", shape.layers):
        content.pop("layer_types", None)
    config = CONFIG_MAPPING[shape.family](**{k: v for k, v in content.items() if k != "model_type"})
    return replace(child, shape=shape, content=content, config=config)


class _Zeros(Record):
    """Factory of constant tensors that are computed when they are read."""

    shape: Shape
    dtype: torch.dtype

    def __call__(self, *size: int) -> LazyTensor:
        return self.made(size, lambda: torch.zeros(size, dtype=self.dtype))

    def full(self, value: float, *size: int) -> LazyTensor:
        return self.made(size, lambda: torch.full(size, value, dtype=self.dtype))

    def identity(self, size: int, value: float) -> LazyTensor:
        return self.made((size, size), lambda: torch.eye(size, dtype=self.dtype) * value)

    def made(self, size: tuple[int, ...], read: Callable[[], Tensor]) -> LazyTensor:
        return LazyTensor(size, self.dtype, read)


def _lowered(layer: _Layer, engine: Architecture, zeros: _Zeros, *, first: bool) -> list[_Layer]:
    """Rewrite one layer into one layer, or into two if its linear attention becomes a separate layer."""
    layers = [layer]
    answer = layer.attention.support(engine, layer.own, first=first)
    if isinstance(answer, Lowered):
        layers = _lower_attention(layer, answer, engine, zeros)
    if first and len(layers) > 1:  # what was put in front is the first layer now, and has no attention
        head = layers[0].attention.support(engine, layer.own, first=True)
        if isinstance(head, Lowered):
            layers[:1] = _lower_attention(layers[0], head, engine, zeros)
    kept = [each for each in layers if not (engine.drops_empty_layers and _is_empty(each))]
    return [_lower_ffn(each, engine, zeros) for each in kept]


def _lower_attention(layer: _Layer, answer: Lowered, engine: Architecture, zeros: _Zeros) -> list[_Layer]:
    norm, hidden = f"{ATTENTION.before}.weight", zeros.shape.hidden
    match answer.way:
        case "extra_layer":
            matrix = layer.weights["self_attn.linear.weight"]
            ffn = biased_ffn(matrix, zeros) | {f"{FFN.before}.weight": layer.weights[norm]}
            own = (f"{ATTENTION.module}.", f"{ATTENTION.before}.")
            kept = {key: value for key, value in layer.weights.items() if not key.startswith(own)}
            return [
                _Layer(layer.own, NoOpAttention(), MlpFfn(width=hidden, dtype=layer.attention.dtype), ffn),
                replace(layer, attention=NoOpAttention(), weights=kept),
            ]
        case "zero_attention":
            new: AttentionAlternative = zero_attention(engine)
            made = {name: zeros(*size) for name, size in new.stored(layer.own).items()}
        case "zero_linear":
            made, new = {"linear.weight": zeros(hidden, hidden)}, LinearAttention()
        case "zero_ffn" | "biased_ffn" | "pad_width" | "pad_experts" | "copy_embedding":
            raise AssertionError(f"{answer.way} is not for attention")
        case _:
            assert_never(answer.way)
    weights = {f"{ATTENTION.module}.{name}": tensor for name, tensor in made.items()}
    return [replace(layer, attention=new, weights=layer.weights | weights | {norm: zeros.full(1, hidden)})]


def _lower_ffn(layer: _Layer, engine: Architecture, zeros: _Zeros) -> _Layer:
    answer = layer.ffn.support(engine, layer.own, first=False)
    if not isinstance(answer, Lowered):
        return layer
    norm, hidden = f"{FFN.before}.weight", zeros.shape.hidden
    match answer.way:
        case "zero_ffn":
            width = engine.zero_ffn_width
            stored = MlpFfn(width=width).stored(zeros.shape)
            made = {f"mlp.{name}": zeros(*size) for name, size in stored.items()}
            made[norm] = zeros.full(1, hidden)
        case "biased_ffn":
            width, made = hidden, biased_ffn(layer.weights["mlp.linear.weight"], zeros)
        case "pad_width" | "pad_experts":  # when the sizes of all layers are known
            return layer
        case "zero_attention" | "zero_linear" | "extra_layer" | "copy_embedding":
            raise AssertionError(f"{answer.way} is not for FFNs")
        case _:
            assert_never(answer.way)
    kept = {key: value for key, value in layer.weights.items() if not key.startswith("mlp.linear.")}
    return replace(layer, ffn=MlpFfn(width=width, dtype=layer.ffn.dtype), weights=kept | made)


def biased_ffn(matrix_HH: LazyTensor, zeros: _Zeros) -> Weights:
    """Write x -> W x as a gated FFN of H channels: down(silu(gate) * up), gate = 32 by its bias, up = x / 32, down = W."""
    hidden = zeros.shape.hidden
    return {
        "mlp.gate_proj.weight": zeros(hidden, hidden),
        "mlp.gate_proj.bias": zeros.full(GATE, hidden),
        "mlp.up_proj.weight": zeros.identity(hidden, 1 / GATE),
        "mlp.up_proj.bias": zeros(hidden),
        "mlp.down_proj.weight": matrix_HH,
        "mlp.down_proj.bias": zeros(hidden),
    }


def _idle(engine: Architecture, zeros: _Zeros) -> _Layer:
    """Return a layer with a KV cache and zero output, for a child without any attention left."""
    layer = _Layer(zeros.shape, NoOpAttention(), NoOpFfn(), {})
    attention = Lowered(way="zero_attention", into="attention whose output is zero")
    return _lower_ffn(_lower_attention(layer, attention, engine, zeros)[0], engine, zeros)


def _is_empty(layer: _Layer) -> bool:
    return layer.attention.removes and layer.ffn.removes


def _is_dense(layer: _Layer) -> bool:
    return layer.ffn.alone(layer.own).ffn == "dense"


def _padded(weight: LazyTensor, dim: int, room: int) -> LazyTensor:
    shape = list(weight.shape)
    shape[dim] += room

    def read() -> Tensor:
        value = weight.read()
        result = value.new_zeros(shape)
        result.narrow(dim, 0, value.shape[dim]).copy_(value)
        return result

    return LazyTensor(tuple(shape), weight.dtype, read)
