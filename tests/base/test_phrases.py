"""Lists in messages: every word and every layer is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.phrases import layers_in_words, listed, ranges


@given(st.sets(st.integers(0, 130), min_size=1))
def test_layers_as_ranges_are_the_layers(layers: set[int]) -> None:
    read: list[int] = []
    for part in ranges(sorted(layers)).split(", "):
        ends, _, step = part.partition(" by ")
        first, _, last = ends.partition("..")
        read += range(int(first), int(last or first) + 1, int(step or 1))
    assert read == sorted(layers)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([3], "layer 3"),
        ([3, 4], "layers 3..4"),
        ([2, 3, 4, 7], "layers 2..4, 7"),
        ([1, 3, 5], "layers 1..5 by 2"),
        ([1, 3, 6], "layers 1, 3, 6"),
    ],
)
def test_layers_are_named_briefly(layers: list[int], text: str) -> None:
    assert layers_in_words(layers) == text


def test_the_last_of_several_words_follows_a_conjunction() -> None:
    assert (listed(["a"]), listed(["a", "b"]), listed([1, 2, 4], "or")) == ("a", "a and b", "1, 2 or 4")
