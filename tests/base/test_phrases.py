"""Lists in messages have every word and every layer; a misspelt word has its nearest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.phrases import closest, layers_in_words, listed, ranges
from puzzledsl.language.kinds import KINDS


@given(st.sets(st.integers(0, 130), min_size=1))
def test_layers_as_ranges_are_the_layers(layers: set[int]) -> None:
    read: list[int] = []
    for part in ranges(sorted(layers)).split(", "):
        ends, _, step = part.partition(" by ")
        first, _, last = ends.partition("..")
        read += range(int(first), int(last or first) + 1, int(step or 1))
    assert read == sorted(layers)


def test_lists_are_written_briefly() -> None:
    for layers, text in (([3], "layer 3"), ([3, 4], "layers 3..4"), ([1, 3, 6], "layers 1, 3, 6")):
        assert layers_in_words(layers) == text
    assert (ranges([2, 3, 4, 7]), ranges([1, 3, 5])) == ("2..4, 7", "1..5 by 2")
    assert (listed(["a"]), listed(["a", "b"]), listed([1, 2, 4], "or")) == ("a", "a and b", "1, 2 or 4")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("serch", "search"),
        ("Search", "search"),
        ("evl", "eval"),
        ("up_train", "uptrain"),
        ("hardwear", "hardware"),
        ("widget", None),
        ("", None),
    ],
)
def test_closest(name: str, meant: str | None) -> None:
    assert closest(name, KINDS) == meant
