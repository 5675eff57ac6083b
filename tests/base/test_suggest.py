from __future__ import annotations

import pytest

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
