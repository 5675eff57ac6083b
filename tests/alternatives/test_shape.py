"""Shapes whose layers differ."""

import json

from puzzledsl.alternatives.shape import LAYER_FIELDS, LayerShape, Shape
from puzzledsl.families.registry import FAMILIES

PLAIN = Shape(
    family="llama", layers=4, hidden=8, heads=2, kv_heads=1, head_dim=4, intermediate=16, vocab=9, tied=True
)


def test_a_family_is_named_after_its_file_and_every_field_of_a_layer_is_one_of_a_shape() -> None:
    assert list(FAMILIES) == sorted(FAMILIES)
    assert all(FAMILIES[name].model_type == name for name in FAMILIES)
    assert set(LAYER_FIELDS) <= set(Shape.model_fields)
    assert set(LAYER_FIELDS) == set(LayerShape.model_fields) - {"layers"}


def test_what_most_layers_have_is_the_shape_s_own() -> None:
    shape = PLAIN.with_layers([{"window": w, "kv_heads": k} for w, k in ((5, 1), (None, 1), (5, 1), (5, 2))])
    assert shape.window == 5 and shape.kv_heads == 1
    assert [(own.window, own.kv_heads) for own in shape.each] == [(5, 1), (None, 1), (5, 1), (5, 2)]
    assert [layers for _, layers in shape.kinds()] == [(0, 2), (1,), (3,)]
    assert json.loads(shape.canonical_json())["by_layer"] == [
        {"layers": [1], "window": None},
        {"layers": [3], "kv_heads": 2},
    ]
    again = Shape.from_json(shape.canonical_json())
    assert again == shape and hash(again) == hash(shape) and again.digest() == shape.digest()
    assert again.with_layers([{"window": None, "kv_heads": 1}] * 4) == PLAIN
