"""Layers as glyphs: each alternative has one of its own, the fuller the more it keeps, without colour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.cli.text.answers import ROW, glyphs, rows


def test_what_keeps_more_is_fuller() -> None:
    found = glyphs(
        [
            ("noop", "noop", 0.0),
            ("mlp50", "reduced", 0.5),
            ("parent", "parent", 1.0),
            ("mlp90", "reduced", 0.9),
            ("linear", "linear", 0.1),
            ("mlp10", "reduced", 0.1),
        ]
    )
    assert found == {"parent": "█", "mlp90": "▇", "mlp50": "▄", "mlp10": "▁", "linear": "╱", "noop": "·"}


def test_an_alternative_that_looks_like_another_has_its_own_glyph() -> None:
    found = glyphs([("parent", "parent", 1.0), ("parent@q8_0", "parent", 1.0)])
    assert found == {"parent": "█", "parent@q8_0": "▇"}


names = st.text("abc", min_size=1, max_size=4)


@given(st.lists(st.tuples(names, st.sampled_from(["parent", "reduced", "linear", "noop"]), st.floats(0, 1))))
def test_glyphs_differ(found: list[tuple[str, str, float]]) -> None:
    chosen = glyphs(found)
    assert chosen.keys() == {name for name, _, _ in found}
    if len(chosen) <= 50:
        assert len(set(chosen.values())) == len(chosen)


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3 * ROW))
def test_every_layer_has_its_glyph_in_order(layers: list[str]) -> None:
    found = list(rows(layers, {"a": "█", "b": "·"}))
    text = "".join(strip for _, strip in found).replace(" ", "")
    assert text == "".join("█" if name == "a" else "·" for name in layers)
    assert found[-1][0].endswith(f"..{len(layers) - 1}")
