"""Shades of the strip: darker for a larger share of the parent's sub-block, and for a wider window."""

from __future__ import annotations

from itertools import pairwise

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.report.pictures.architecture import appearance
from tests.search.instances import SHAPE


def test_narrower_windows_are_fainter() -> None:
    windows = (None, 8192, 1024, 128)
    found = [GqaAttention(kv_heads=SHAPE.kv_heads, window=w, sinks=4 if w else 0) for w in windows]
    shades = [appearance(each, SHAPE)[1] for each in (ParentAttention(), *found, NoOpAttention())]
    assert shades[:2] == [1, pytest.approx(0.9)] and all(a > b + 0.06 for a, b in pairwise(shades))


def test_fewer_bits_are_fainter() -> None:
    shades = [appearance(ParentAttention(dtype=d), SHAPE)[1] for d in (None, "q8_0", "q5_0", "q4_0")]
    assert all(a > b + 0.03 for a, b in pairwise(shades))


def test_smaller_alternatives_are_fainter() -> None:
    assert appearance(LinearAttention(), SHAPE) == ("linear", 1.0)
    assert appearance(NoOpAttention(), SHAPE) == ("noop", 0.0)
    assert appearance(MlpFfn(width=SHAPE.intermediate // 4), SHAPE) == (
        "reduced",
        pytest.approx(0.36, abs=0.01),
    )
