"""A child made for one text is told from one that finds another text merely harder."""

from __future__ import annotations

from puzzledsl.evaluate.compare import text_gap
from puzzledsl.ir.tables import Figure, TextGap


def test_the_nearest_and_the_farthest_of_many():
    texts = {name: {"kl": Figure(value=kl)} for name, kl in (("a", 0.3), ("b", 0.2), ("c", 0.9), ("d", 0.8))}
    assert text_gap(texts) == TextGap(near="b", far="c", near_kl=0.2, far_kl=0.9)
