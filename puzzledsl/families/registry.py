"""All families: the `FAMILY`, or the `FAMILIES`, of every module here that has one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import puzzledsl.families
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.weights import Computation
from puzzledsl.families.block_configs import Layer, base_content, is_child, layers_of_child, shape_of_child
from puzzledsl.families.config import BadConfig, Config, canonical, config_content, shown
from puzzledsl.families.family import Family
from puzzledsl.families.literal import computation_of


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
MAX_ALL_EXPERTS = 1 << 18  # each has weights with names, which are listed


def read_config(path: Path) -> Shape | None:
    """Read the shape from a config.json; None if there is no such file. Raises BadConfig for one that cannot be used."""
    content = config_content(path)
    return None if content is None else shape_of_config(content)


def shape_of_config(content: Mapping[str, Any]) -> Shape:
    """Return the shape that a config.json describes, a child's too. Raises BadConfig if no model can have it."""
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
    """Return the argument that is wrong in a shape that no model can have, and the reason; None if one can."""
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
