"""All families, from `FAMILY` or `FAMILIES` of the modules here; and the shapes of config.json files and of literals.

A config.json describes a shape and a computation: rotary embeddings, activation, weights of chosen experts. A `shape(…)` literal
gives sizes and rules for layers, and its family the rest.
"""

import importlib
import math
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import puzzledsl.families
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.weights import PARTIAL, Computation
from puzzledsl.alternatives.weights import USUAL as USUAL_COMPUTATION
from puzzledsl.families.block_configs import Layer, base_content, is_child, layers_of_child, shape_of_child
from puzzledsl.families.config import LETTERS, BadConfig, Config, canonical, config_content, laid_out, shown
from puzzledsl.families.family import Family


def _found() -> Iterator[Family]:
    for module in pkgutil.iter_modules(puzzledsl.families.__path__):
        if module.name != "registry":
            found = importlib.import_module(f"{puzzledsl.families.__name__}.{module.name}")
            yield from getattr(found, "FAMILIES", ())
            if isinstance(family := getattr(found, "FAMILY", None), Family):
                yield family


FAMILIES: Mapping[str, Family] = {
    family.model_type: family for family in sorted(_found(), key=lambda family: family.model_type)
}
"""`model_type` of config.json -> the family."""

UNSUPPORTED = {
    "gemma4": "each layer of Gemma 4 multiplies the whole stream by a number of its own, and its logits are capped; "
    "neither is supported"
}
"""Start of a `model_type` that is not supported -> the reason."""
MAX_ALL_EXPERTS = 1 << 18  # in all layers; the weights of each are listed by name


def read_config(path: Path) -> Shape | None:
    """Read the shape from a config.json; None if there is no such file. Raises BadConfig for one that cannot be used."""
    content = config_content(path)
    return None if content is None else shape_of_config(content)


def shape_of_config(content: Mapping[str, Any]) -> Shape:
    """Return the shape that a config.json describes, a child's too. Raises BadConfig, also for a shape that no model can have."""
    if not is_child(content):
        return _shape_of_family(content, "model_type")
    base = _shape_of_family(base_content(content), "base_model_type")
    return _possible(shape_of_child(content, base))


def computation_of_config(content: Mapping[str, Any]) -> Computation:
    """Return what a config.json, a child's too, says about the computation. Raises BadConfig."""
    own = base_content(content) if is_child(content) else text_part(content)
    shape = _shape_of_family(own, "model_type")
    return computation_of(FAMILIES[shape.family], Config(own), shape)


def child_of_config(content: Mapping[str, Any]) -> tuple[Shape, tuple[Layer, ...]]:
    """Return the base family's shape and the alternatives that a child's config.json describes. Raises BadConfig."""
    base = _shape_of_family(base_content(content), "base_model_type")
    return base, layers_of_child(content, base)


def text_part(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a config.json says about the text part of a model that sees pictures, too; all of it for another model."""
    of_text = content.get("text_config")
    family = next((f for f in FAMILIES.values() if f.whole and f.whole == content.get("model_type")), None)
    if family is None or not isinstance(of_text, dict):
        return content
    return of_text | {"model_type": family.model_type}


def _shape_of_family(content: Mapping[str, Any], field: str) -> Shape:
    content = text_part(content)
    model_type = content.get("model_type")
    if isinstance(model_type, str):
        for start, why in UNSUPPORTED.items():
            if model_type.startswith(start):
                raise BadConfig(f"{field} is {shown(model_type)}: {why}")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise BadConfig(f"{field} is {shown(model_type)}; known families are {', '.join(FAMILIES)}")
    family, config = FAMILIES[model_type], Config(content)
    quantisation = content.get("quantization_config")
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation
    if method is not None and method not in family.quantised:
        forms = ", ".join(("bfloat16", "float16", *family.quantised))
        raise BadConfig(f"its weights are quantised by {shown(method)}; those in {forms} or float32 are read")
    shape = _possible(family.shape(config))
    computation_of(family, config, shape)
    return shape


def _possible(shape: Shape) -> Shape:
    shape = canonical(shape)
    if wrong := impossible(shape):
        raise BadConfig(wrong[1])
    return shape


def impossible(shape: Shape) -> tuple[str, str] | None:
    """Return the wrong argument and the reason for a shape that no model can have; None for a possible shape."""
    if (experts := sum(own.experts for own in shape.each if own.ffn == "moe")) > MAX_ALL_EXPERTS:
        why = f"{experts:,} experts in all layers are more than {MAX_ALL_EXPERTS:,}, which no model has"
        return "experts", why
    base = shape.base or shape
    if FAMILIES[shape.family].whole_heads and base.hidden % base.heads:
        why = f"hidden={base.hidden} is no multiple of heads={base.heads}, as in every {shape.family}"
        return "hidden", why
    for own, _ in shape.kinds():
        if own.mixer == "attention" and own.heads % own.kv_heads:
            return "kv_heads", f"kv_heads={own.kv_heads} does not divide heads={own.heads}"
        if own.mixer == "attention" and own.rope and own.head_dim % 2:
            return "head_dim", f"head_dim={own.head_dim} is odd, which rotary embeddings cannot use"
        if own.ffn == "moe" and own.top_k > own.experts:
            return "top_k", f"top_k={own.top_k} is more than experts={own.experts}"
        if own.mixer in ("mamba2", "delta_net") and own.state and own.state.heads % own.state.groups:
            why = f"{own.state.groups} groups do not divide the {own.state.heads} heads of its mixer"
            return "mixer", why
    return None


USUAL = ("family", "layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab")
"""Arguments that a literal of every family takes."""
FLAGS = ("tied", "attention_bias", "output_bias", "mlp_bias", "qk_norm")
"""Arguments that a literal may write with the value that its family always has, even if the family does not take them."""


class BadLiteral(ValueError):
    """A literal that describes no model. `argument`: the one that is wrong."""

    def __init__(self, argument: str, why: str, help: str = "") -> None:
        """Keep the argument and a line of help."""
        super().__init__(why)
        self.argument, self.help = argument, help


def refused(family: Family, written: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the written arguments that no model of the family can have, each with the reason."""
    name = family.model_type
    for key, value in written.items():
        if key in (*USUAL, *family.takes):
            continue
        if key not in FLAGS:
            yield key, f"a `{name}` has no `{key}`"
        elif value != (own := family.literal.get(key, False)):
            yield key, f"a `{name}` has always `{key}: true`" if own else f"a `{name}` has no `{key}`"
    bias = _bias(family, written)
    if "output_bias" in family.takes and written.get("output_bias", bias) != bias:
        yield "output_bias", f"a `{name}` has biases in all four maps of attention or in none"


def _bias(family: Family, written: Mapping[str, Any]) -> bool:
    return bool({**family.literal, **written}.get("attention_bias", False))


def needed(family: Family, written: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments that a literal of the family must have, in the order of documentation."""
    mixers, channels = _kinds(family, written)
    by_pattern = "pattern" in family.takes
    sizes = {
        "layers": not by_pattern,
        "hidden": True,
        "heads": True,
        "head_dim": True,
        "intermediate": "dense" in channels,
        "vocab": True,
        "window": "full_every" in {**family.literal, **written} and "window" not in family.literal,
        **dict.fromkeys(("experts", "top_k", "expert_width"), "moe" in channels),
        "mixer": bool(mixers & {"mamba2", "delta_net"}) and "state" not in family.literal,
        "pattern": by_pattern,
    }
    return ("family", *(name for name, here in sizes.items() if here))


def _kinds(family: Family, written: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the kinds of mixers and of channel mixers that some layer has."""
    rules = {**family.literal, **written}
    mixers, channels = {str(rules.get("mixer", "attention"))}, {str(rules.get("ffn", "dense"))}
    if pattern := rules.get("pattern"):
        only = [LETTERS[letter] for letter in pattern if letter in LETTERS]
        return {own["mixer"] for own in only}, {own["ffn"] for own in only}
    if "attention_every" in rules:
        mixers.add("attention")
    if "dense_first" in rules:
        channels.add("dense")
    return mixers, channels


def shape_of_literal(family: Family, written: Mapping[str, Any]) -> Shape:
    """Return the shape of a literal; `written` has all `needed` arguments, and kv_heads is heads if absent. Raises BadLiteral."""
    rules = {**family.literal, **written}
    if (pattern := rules.get("pattern")) is not None:
        _check_pattern(pattern, rules.get("layers"))
        rules["layers"] = len(pattern)
    if rules.get("dense_first", 0) > rules["layers"]:
        why = f"dense_first={rules['dense_first']} of layers={rules['layers']}"
        raise BadLiteral("dense_first", why, "it goes from 1 to the number of layers")
    if "mixer" in written:
        rules |= {"state": written["mixer"], "mixer": family.literal["mixer"]}
    fields = {name: value for name, value in rules.items() if name in Shape.model_fields}
    fields.setdefault("kv_heads", fields["heads"])
    if "output_bias" in family.takes:
        fields["output_bias"] = _bias(family, written)
    fields = {"intermediate": 0, "tied": False, **fields, "family": family.model_type}
    return canonical(laid_out(Shape(**fields), rules))


def _check_pattern(pattern: str, layers: int | None) -> None:
    wrong = next((letter for letter in pattern if letter not in LETTERS), None)
    if wrong is not None:
        known = "M (Mamba2), * (attention), - (FFN) and E (mixture)"
        raise BadLiteral("pattern", f"`{wrong}` is no kind of layer", f"a pattern has the letters {known}")
    if layers is not None and layers != len(pattern):
        why = f"layers={layers}, but the pattern has {len(pattern)}"
        raise BadLiteral("layers", why, "leave `layers` out: the pattern says how many there are")


ROPES: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "proportional": (),
}
"""Scaling of rotary embeddings in transformers -> the numbers that it needs."""
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh"),
    *("laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6", "sigmoid"),
    *("silu", "swish", "tanh"),
)
"""Activations of transformers without weights."""
MAX_NUMBER = 2.0**62


def computation_of(family: Family, config: Config, shape: Shape) -> Computation:
    """Return what a config.json says about the computation. Raises BadConfig for what transformers cannot compute."""
    name, usual = family.activation
    activation = config.content.get(name, usual)
    if activation not in ACTIVATIONS:
        raise BadConfig(f"{name} is {shown(activation)}; known ones are {', '.join(ACTIVATIONS)}")
    activation = "silu" if activation == "swish" else activation
    mixture = any(own.ffn == "moe" for own, _ in shape.kinds())
    to_one = config.flag("norm_topk_prob", absent=family.mixture.weights_sum_to_one) if mixture else True
    return Computation(
        ropes=tuple(sorted(set(_ropes(family, config, shape)))) or USUAL_COMPUTATION.ropes,
        activation="" if activation == usual else activation,
        weights_of_all=not to_one,
    )


def _ropes(family: Family, config: Config, shape: Shape) -> Iterator[str]:
    """Yield the scaling of each kind of layer, after `PARTIAL` if only some dimensions turn; none without rotary embeddings."""
    if not family.literal.get("rope", True):
        return
    content = config.content
    for name in ("rope_scaling", "rope_parameters"):
        if config.has(name) and not isinstance(content[name], dict):
            raise BadConfig(f"{name} is {shown(content[name])}, and should be an object")
    told: dict[str, Any] = content.get("rope_scaling") or content.get("rope_parameters") or {}
    of_all = {"partial_rotary_factor": content.get("partial_rotary_factor")}
    of_kinds = [own for own in told.values() if isinstance(own, dict)]  # one of each kind of layer
    if of_kinds and not family.ropes_of_kinds:
        raise BadConfig(f"rope_parameters is {shown(told)}; a {family.model_type} has one for all layers")
    for rope in of_kinds or [told]:
        yield from _kinds_of(family, of_all | rope, shape)


def _kinds_of(family: Family, rope: Mapping[str, Any], shape: Shape) -> Iterator[str]:
    word = rope.get("rope_type", rope.get("type", "default"))
    known = family.ropes or {name: name for name in ROPES}
    if not isinstance(word, str) or word not in known:
        raise BadConfig(f"rope_type is {shown(word)}; known ones are {', '.join(known)}")
    kind = known[word]
    for name in ROPES[kind]:
        _number(rope, name)
    part = rope.get("partial_rotary_factor")
    part = 1 if part is None else _number(rope, "partial_rotary_factor")
    turned = int(shape.head_dim * part)
    if part != 1 and (turned % 2 or not 0 < turned <= shape.head_dim):
        raise BadConfig(
            f"partial_rotary_factor is {part:g}, which turns {turned} of {shape.head_dim} dimensions"
        )
    if kind == "longrope":
        if (usual := shape.hidden // shape.heads) != shape.head_dim:
            why = f"head_dim is {shape.head_dim}, and rotary embeddings of type longrope have {usual}"
            raise BadConfig(why)
        for name in ("short_factor", "long_factor"):
            _factors(rope, name, int(shape.head_dim * part) // 2)
    if part != 1:
        yield PARTIAL
    yield kind


def _number(rope: Mapping[str, Any], name: str) -> float:
    """Return field `name` of a rotary embedding, a number above 0. Raises BadConfig."""
    value = rope.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_NUMBER:
        what = "missing" if name not in rope else shown(value)
        raise BadConfig(f"{name} of the rotary embedding is {what}")
    return value


def _factors(rope: Mapping[str, Any], name: str, count: int) -> None:
    value = rope.get(name)
    if not isinstance(value, list) or len(value) != count:
        found = f"{len(value)} numbers" if isinstance(value, list) else shown(value)
        raise BadConfig(f"{name} of the rotary embedding is {found}, and should be {count} numbers")
    for factor in value:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
            raise BadConfig(f"{name} of the rotary embedding contains {shown(factor)}")
