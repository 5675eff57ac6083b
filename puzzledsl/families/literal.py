"""Shape of a parent that a `shape(…)` literal describes: sizes, rules for layers, and the rest from its family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.family import Family
from puzzledsl.families.layouts import LETTERS, canonical, laid_out

USUAL = ("family", "layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab")
"""Arguments that a literal of every family takes."""
FLAGS = ("tied", "attention_bias", "output_bias", "mlp_bias", "qk_norm")
"""Arguments that a literal may repeat where its family has always the same."""
LAYER_RULES = ("pattern", "attention_every", "full_every", "no_rope_every", "dense_first")
"""Arguments about layers that differ; no fields of a shape."""


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
    """Return the shape of a literal with at least the arguments that are `needed`. Raises BadLiteral.

    `written`: values by argument, without the family; a mixer is its StateShape. kv_heads defaults to heads.
    """
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
