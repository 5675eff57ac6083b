from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.phrases import closest
from puzzledsl.language.kinds import KINDS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("serch", "search"),
        ("saerch", "search"),
        ("Search", "search"),
        ("evl", "eval"),
        ("up_train", "uptrain"),
        ("hardwear", "hardware"),
        ("widget", None),
        ("x", None),
        ("", None),
    ],
)
def test_closest(name: str, meant: str | None) -> None:
    assert closest(name, KINDS) == meant


def test_the_one_longer_name_is_meant() -> None:
    assert closest("h100", ["h200", "h100_sxm", "a100"]) == "h100_sxm"
    assert closest("h100", ["h200", "h100_sxm", "h100_pcie"]) == "h200"
    assert closest("h_100", ["h100", "h_100_sxm"]) == "h100"


@given(st.text(max_size=100), st.lists(st.text(max_size=20), max_size=5))
def test_a_suggestion_is_one_of_the_candidates(name: str, candidates: list[str]) -> None:
    found = closest(name, candidates)
    assert found is None or (found in candidates and found != name)
