"""All families: the `FAMILY` of every module here that has one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import puzzledsl.families
from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import BadConfig, Config, shown
from puzzledsl.families.family import Family


def _found() -> Iterator[Family]:
    for module in pkgutil.iter_modules(puzzledsl.families.__path__):
        if module.name != "registry":
            family = getattr(
                importlib.import_module(f"{puzzledsl.families.__name__}.{module.name}"), "FAMILY", None
            )
            if isinstance(family, Family):
                yield family


FAMILIES: Mapping[str, Family] = {family.model_type: family for family in _found()}
"""`model_type` of config.json -> the family."""


def shape_of_config(content: Mapping[str, Any]) -> Shape:
    """Return the shape that a config.json describes. Raises BadConfig if there is none, or no model can have it."""
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise BadConfig(f"model_type is {shown(model_type)}; known families are {', '.join(FAMILIES)}")
    shape = FAMILIES[model_type].read(Config(content))
    if why := impossible(shape):
        raise BadConfig(why)
    return shape


def impossible(shape: Shape) -> str:
    """Return the reason why no model can have this shape; empty if one can."""
    for own, _ in shape.kinds():
        if own.mixer == "attention" and own.heads % own.kv_heads:
            return f"kv_heads={own.kv_heads} does not divide heads={own.heads}"
        if own.mixer == "attention" and own.rope and own.head_dim % 2:
            return f"head_dim={own.head_dim} is odd, which rotary embeddings cannot use"
        if own.top_k > own.experts:
            return f"top_k={own.top_k} is more than experts={own.experts}"
    return ""
