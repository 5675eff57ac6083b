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
from puzzledsl.ir.nodes import Shape
from puzzledsl.language.calls import SHAPE

FAMILIES = SHAPE.arguments["family"].words
MAX_SIZE = 2**24
MAX_CONFIG_BYTES = 1 << 20
_WHOLES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab")


class BadConfig(ValueError):
    """A config.json that cannot be used; the message gives the reason."""


# ---------------------------------------------------------------- literals


def read_shape(ctx: Context, call: Constructed) -> Shape | None:
    """Return the shape of a `shape(…)` call; None, reported, if a field is missing, wrong or impossible.

    kv_heads defaults to heads. qwen2's q, k, v biases and qwen3's q/k norms are on unless switched off.
    """
    settings = from_call(ctx, call, SHAPE)
    settings.need("family", "layers", "hidden", "heads", "head_dim", "intermediate", "vocab")
    family = settings.word("family", "llama")
    sizes = {key: settings.whole(key, 1, 1, MAX_LAYERS if key == "layers" else MAX_SIZE) for key in _WHOLES}
    if not settings.has("kv_heads"):
        sizes["kv_heads"] = sizes["heads"]
    shape = Shape(
        family=family,
        tied=settings.flag("tied"),
        attention_bias=settings.flag("attention_bias", family == "qwen2"),
        output_bias=settings.flag("output_bias"),
        mlp_bias=settings.flag("mlp_bias"),
        qk_norm=settings.flag("qk_norm", family == "qwen3"),
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


def impossible(shape: Shape) -> str:
    """Return the reason why no model can have this shape; empty if one can."""
    if shape.heads % shape.kv_heads:
        return f"kv_heads={shape.kv_heads} does not divide heads={shape.heads}"
    if shape.head_dim % 2:
        return f"head_dim={shape.head_dim} is odd, which rotary embeddings cannot use"
    return ""


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
    return _shape_of(config)


def _shape_of(config: dict[str, Any]) -> Shape:
    family = config.get("model_type")
    if family not in FAMILIES:
        raise BadConfig(f"model_type is {str(family)[:40]!r}; known families are {', '.join(FAMILIES)}")
    hidden, heads = _whole(config, "hidden_size"), _whole(config, "num_attention_heads")
    kv_default = {"mistral": 8, "qwen2": 32, "qwen3": 32}.get(family, heads)
    bias = _flag(config, "attention_bias") if family in ("llama", "qwen3") else family == "qwen2"
    shape = Shape(
        family=family,
        layers=_whole(config, "num_hidden_layers", MAX_LAYERS),
        hidden=hidden,
        heads=heads,
        kv_heads=_optional(config, "num_key_value_heads", kv_default, heads),
        head_dim=_optional(
            config, "head_dim", 128 if family == "qwen3" else hidden // heads, hidden // heads
        ),
        intermediate=_whole(config, "intermediate_size"),
        vocab=_whole(config, "vocab_size"),
        tied=_flag(config, "tie_word_embeddings"),
        attention_bias=bias,
        output_bias=bias and family != "qwen2",
        mlp_bias=family == "llama" and _flag(config, "mlp_bias"),
        qk_norm=family == "qwen3",
        window=_window(config, family),
    )
    why = impossible(shape)
    if why:
        raise BadConfig(why)
    return shape


def _whole(config: dict[str, Any], key: str, high: int = MAX_SIZE) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        what = "missing" if key not in config else f"{json.dumps(value)[:40]}"
        raise BadConfig(f"{key} is {what}")
    return value


def _optional(config: dict[str, Any], key: str, absent: int, null: int) -> int:
    """Read an optional field as transformers does: one default for a missing key, another for an explicit null."""
    if key not in config:
        return absent
    return null if config[key] is None else _whole(config, key)


def _window(config: dict[str, Any], family: str) -> int | None:
    """Return Mistral's `sliding_window` (4096 if absent), else None.

    Qwen's windows are off by default and do not apply to all layers.
    """
    if family == "mistral":
        if config.get("sliding_window", 0) is None:
            return None
        return _whole(config, "sliding_window", 2**40) if "sliding_window" in config else 4096
    if family in ("qwen2", "qwen3") and _flag(config, "use_sliding_window"):
        raise BadConfig("use_sliding_window is true: windows in some layers only are not supported")
    return None


def _flag(config: dict[str, Any], key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise BadConfig(f"{key} is {json.dumps(value)[:40]}")
    return value


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
