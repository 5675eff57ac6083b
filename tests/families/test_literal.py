"""A `shape(…)` literal: sizes and rules for layers that the user writes, and the rest from the family's table."""

from dataclasses import replace
from typing import Any

import pytest

from puzzledsl.alternatives.shape import Shape, StateShape
from puzzledsl.families.family import Family
from puzzledsl.families.registry import FAMILIES, USUAL, needed, shape_of_literal
from puzzledsl.language.kinds import SHAPE

SIZES = {"layers": 6, "hidden": 64, "heads": 8, "head_dim": 8, "intermediate": 192, "vocab": 256}
LAYER_RULES = ("pattern", "attention_every", "full_every", "no_rope_every", "dense_first")
"""Arguments about layers that differ; no fields of a shape."""
EXPERTS = {"experts": 8, "top_k": 2, "expert_width": 16}
STATE = StateShape(heads=8, head_dim=16, groups=2, state=16, conv=4)


def family(*takes: str, **literal: Any) -> Family:
    return replace(FAMILIES["llama"], takes=takes, literal=literal)


def own(shape: Shape, field: str) -> list[Any]:
    return [getattr(layer, field) for layer in shape.each]


def test_what_is_written_beats_what_the_family_says() -> None:
    says = family("full_every", window=64, full_every=3, attention_bias=True)
    shape = shape_of_literal(says, {**SIZES, "window": 32, "attention_bias": False})
    assert own(shape, "window") == [32, 32, None, 32, 32, None]
    assert not shape.attention_bias
    assert own(shape_of_literal(says, {**SIZES, "full_every": 2}), "window") == [64, None] * 3
    assert own(shape_of_literal(family(no_rope_every=3), SIZES), "rope") == [True, True, False] * 2


@pytest.mark.parametrize(
    ("says", "written", "more", "fewer"),
    [
        (family(), {}, set(), set()),
        (family(ffn="moe"), {}, set(EXPERTS), {"intermediate"}),
        (family(ffn="moe"), {"dense_first": 1}, set(EXPERTS), set()),
        (family(), {"full_every": 2}, {"window"}, set()),
        (family(window=64, full_every=2), {}, set(), set()),
        (family("pattern", "mixer", mixer="mamba2"), {"pattern": "M*"}, {"pattern", "mixer"}, {"layers", "intermediate"}),
        (family("pattern"), {"pattern": "-E"}, {"pattern", *EXPERTS}, {"layers"}),
        (family(mixer="delta_net", attention_every=2), {}, {"mixer"}, set()),
    ],
)  # fmt: skip
def test_the_layers_say_which_sizes_are_needed(
    says: Family, written: dict[str, Any], more: set[str], fewer: set[str]
) -> None:
    assert set(needed(says, written)) == ({"family", *SIZES} | more) - fewer


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_table_speaks_of_fields_and_arguments(name: str) -> None:
    says = FAMILIES[name]
    assert set(says.literal) <= {*Shape.model_fields, *LAYER_RULES}
    assert set(says.takes) <= set(SHAPE.arguments) - set(USUAL)
    assert {rule for rule in says.literal if rule in LAYER_RULES} <= set(says.takes)
    assert {"mixer"} & set(says.takes) <= set(says.literal)
