"""Shades of the strip: windows of one space differ visibly from each other and from attention to everything."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import LayerChoice, Program
from puzzledsl.report.pictures.architecture import WindowScale, appearance, window_scale
from tests.search.instances import SHAPE, plain_instance

VISIBLE = 0.06
"""Of the full colour: a step that can be seen."""
FULL = SHAPE.kv_heads


def windowed(*windows: int | None, kv_heads: int = FULL) -> LayerChoice:
    attention = tuple(GqaAttention(kv_heads=kv_heads, window=w, sinks=4 if w else 0) for w in windows)
    return LayerChoice(attention=(ParentAttention(), *attention, NoOpAttention()), ffn=(ParentFfn(),))


def program_with(longest: int) -> Program:
    program = plain_instance((windowed(None),)).program
    scenarios = {
        name: s.model_copy(update={"prompt": longest // 2, "output": longest - longest // 2})
        for name, s in program.scenarios.items()
    }
    return program.model_copy(update={"scenarios": scenarios})


def shades(choice: LayerChoice, longest: int, **shape: Any) -> list[float]:
    """Of the alternatives in the order given; the parent's first, no-op's last."""
    changed = SHAPE.model_copy(update=shape)
    scale = window_scale(program_with(longest), [choice], changed)
    return [appearance(alternative, changed, scale)[1] for alternative in choice.attention]


@pytest.mark.parametrize(
    ("windows", "longest"),
    [
        ((192, 64), 512),
        ((192, 64), 128),
        ((8192, 4096), 131_072),
        ((2048, 1024, 512, 256), 4096),
        ((4096, 1024), 1024),
    ],
)
def test_windows_of_a_space_differ_visibly(windows: tuple[int, ...], longest: int) -> None:
    """Narrower ones are fainter; the widest is fainter than attention to everything, whatever the scenarios' lengths."""
    parent, full, *narrower = shades(windowed(None, *windows), longest)
    steps = [parent - full, *(a - b for a, b in pairwise([full, *narrower]))]
    assert parent == 1 and all(step >= VISIBLE for step in steps)


def test_the_parents_window_is_full() -> None:
    """A wider one changes nothing; a narrower one does."""
    parent, wider, same, narrower, _ = shades(windowed(8192, 4096, 1024), 512, window=4096)
    assert parent == 1 and wider == pytest.approx(0.9, abs=1e-3) == same
    assert same - narrower >= VISIBLE


def test_without_windows_shades_are_those_of_heads() -> None:
    (_, half, _) = shades(windowed(None, kv_heads=FULL // 2), 512)
    assert half == pytest.approx(0.18 + 0.72 * 0.5**0.5)
    scale = WindowScale(64, 64)
    assert appearance(LinearAttention(), SHAPE, scale) == ("linear", 1.0)
    assert appearance(NoOpAttention(), SHAPE, scale) == ("noop", 0.0)
    quarter = appearance(MlpFfn(width=SHAPE.intermediate // 4), SHAPE, scale)
    assert quarter == ("reduced", pytest.approx(0.36))


def test_a_window_is_seen_beside_the_layers_own() -> None:
    """The same window is fainter in a layer that sees everything than in one that has a window itself."""
    shape = SHAPE.with_layers([{"window": 1024 if layer % 2 else None} for layer in range(SHAPE.layers)])
    choice = windowed(512)
    scale = window_scale(program_with(8192), (choice,) * shape.layers, shape)
    full, capped = (appearance(choice.attention[1], shape.at(layer), scale)[1] for layer in (0, 1))
    assert 0 < full < capped - VISIBLE
    assert all(appearance(ParentAttention(), own, scale)[1] == 1 for own in shape.each)
