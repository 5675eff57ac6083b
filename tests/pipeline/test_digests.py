"""Digests that a stamp keeps: a field that leaves the language makes nothing stale."""

from __future__ import annotations

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import LayerChoice, Space, Where
from puzzledsl.pipeline.digests import meaning


def test_a_space_has_the_digest_it_had_with_a_width_of_the_whole_model() -> None:
    layer = LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(),))
    space = Space(
        name="w",
        parent="p",
        layers=(layer,),
        where=Where(file="a.pzl", line=1, column=1, end_line=1, end_column=6),
    )
    assert meaning(space) == "f45bdd18063163b4439663049346ea664c82f4eeaf74e225ac5da951b53ffede"
