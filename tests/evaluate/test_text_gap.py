"""A child made for one text is told from one that finds another text merely harder."""

from __future__ import annotations

import pytest

from puzzledsl.evaluate.compare import text_gap
from puzzledsl.ir.tables import Figure, TextGap


@pytest.mark.parametrize(
    ("prose", "code", "far"),
    [
        (0.23, 1.41, "code"),  # a coder's child made on prose
        (1.41, 0.23, "prose"),
        (0.23, 0.68, None),  # less than three times
        (0.02, 0.19, None),  # nine times next to nothing
        (0.0, 0.21, "code"),
        (0.4, 0.4, None),
    ],
)
def test_both_a_ratio_and_a_difference(prose, code, far):
    found = text_gap({name: {"kl": Figure(value=kl)} for name, kl in (("prose", prose), ("code", code))})
    assert (found and found.far) == far
    if found:
        assert found == TextGap(
            near={"code": "prose", "prose": "code"}[far],
            far=far,
            near_kl=min(prose, code),
            far_kl=max(prose, code),
        )


def test_the_nearest_and_the_farthest_of_many():
    texts = {name: {"kl": Figure(value=kl)} for name, kl in (("a", 0.3), ("b", 0.2), ("c", 0.9), ("d", 0.8))}
    assert text_gap(texts) == TextGap(near="b", far="c", near_kl=0.2, far_kl=0.9)


def test_one_text_agrees_with_itself():
    assert text_gap({"a": {"kl": Figure(value=3.0)}}) is None and text_gap({}) is None
