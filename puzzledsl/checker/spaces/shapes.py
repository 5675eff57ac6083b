"""A parent's shape, read from a `shape(…)` literal or from a checkpoint's config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed
from puzzledsl.checker.limits import MAX_LAYERS
from puzzledsl.families.config import MAX_SIZE, BadConfig
from puzzledsl.families.registry import FAMILIES, impossible, shape_of_config
from puzzledsl.ir.nodes import Shape
from puzzledsl.language.calls import SHAPE

MAX_CONFIG_BYTES = 1 << 20
_WHOLES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab")


# ---------------------------------------------------------------- literals


def read_shape(ctx: Context, call: Constructed) -> Shape | None:
    """Return the shape of a `shape(…)` call; None, reported, if a field is missing, wrong or impossible.

    kv_heads defaults to heads; what else is not written is as the family's `literal` says.
    """
    settings = from_call(ctx, call, SHAPE)
    settings.need("family", "layers", "hidden", "heads", "head_dim", "intermediate", "vocab")
    family = settings.word("family", "llama")
    usual = FAMILIES[family].literal
    sizes: dict[str, Any] = {
        key: settings.whole(key, 1, 1, MAX_LAYERS if key == "layers" else MAX_SIZE) for key in _WHOLES
    }
    if not settings.has("kv_heads"):
        sizes["kv_heads"] = sizes["heads"]
    shape = Shape(
        family=family,
        tied=settings.flag("tied"),
        attention_bias=settings.flag("attention_bias", bool(usual.get("attention_bias"))),
        output_bias=settings.flag("output_bias", bool(usual.get("output_bias"))),
        mlp_bias=settings.flag("mlp_bias", bool(usual.get("mlp_bias"))),
        qk_norm=settings.flag("qk_norm", bool(usual.get("qk_norm"))),
        window=settings.whole("window", 1, 1) if settings.has("window") else None,
        **sizes,
    )
    if settings.failed:
        return None
    why = impossible(shape)
    if why:
        span = settings.entry("kv_heads").span if settings.has("kv_heads") else call.span
        ctx.report(errors.ImpossibleShape(span, why=why, help=_kv_help(shape)))
        return None
    return shape


def _kv_help(shape: Shape) -> str:
    if shape.heads % shape.kv_heads == 0:
        return ""
    near = [d for d in range(1, min(shape.heads, 1024) + 1) if shape.heads % d == 0]
    return "kv_heads can be " + ", ".join(map(str, near))


# ---------------------------------------------------------------- config.json


def config_path(folder: Path, id: str) -> Path:
    """Return the path of a checkpoint's config.json. `id` is relative to `folder`, or absolute."""
    return folder / id / "config.json"


def read_config(path: Path) -> Shape | None:
    """Read the shape from a config.json; None if there is no such file. Raises BadConfig for one that cannot be used."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise BadConfig("it is larger than any config.json")
        config = json.loads(data)
    except BadConfig:
        raise
    except OSError as error:
        raise BadConfig(f"it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadConfig("it is not JSON") from error
    if not isinstance(config, dict):
        raise BadConfig("it is not a JSON object")
    return shape_of_config(config)


def mismatch(said: Shape, found: Shape) -> tuple[str, object, object] | None:
    """Return the first field in which two shapes differ, with both values; None if they agree."""
    for name in Shape.model_fields:
        mine, other = getattr(said, name), getattr(found, name)
        if mine != other:
            return name, mine, other
    return None


def argument_place(settings: Settings, call: Constructed, field: str) -> Span:
    """Return the span of a field of a `shape(…)` call; the whole `shape:` argument if the field is not written there."""
    for argument in call.arguments:
        if argument.name is not None and argument.name.text == field:
            return argument.span
    return settings.place("shape")
