"""Lists in messages read as a person writes them."""

from __future__ import annotations

import pytest

from puzzledsl.base.phrases import first_layers, layer_ranges, listed


def test_the_last_of_several_parts_follows_a_word() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed([1, 2, 4], "or") == "1, 2 or 4"


@pytest.mark.parametrize(
    ("layers", "ranges", "first"),
    [
        ([3], "layer 3", "layer 3"),
        ([0, 1], "layers 0-1", "layers 0 to 1"),
        ([0, 1, 2, 7], "layers 0-2, 7", "layers 0, 1, 2, 7"),
        ([*range(0, 18, 2)], "layers 0, 2, 4, 6, 8, 10, 12, 14, 16", "layers 0, 2, 4, 6, 8, 10, 12, 14 …"),
    ],
)
def test_layers(layers: list[int], ranges: str, first: str) -> None:
    assert (layer_ranges(layers), first_layers(layers)) == (ranges, first)
