"""Meaning of `attention`, `ffn` and overrides, against an oracle that shares no code with the checker."""

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.ir import nodes
from tests.cases import cases
from tests.checker.programs import checked, lowered

LAYERS, HEADS, KV_HEADS, WIDTH = 6, 16, 8, 512
PARENT = (
    f"parent p = shape(family: llama, layers: {LAYERS}, hidden: 128, heads: {HEADS}, kv_heads: {KV_HEADS}, "
    f"head_dim: 8, intermediate: {WIDTH}, vocab: 256)\n"
)


Written = tuple[str, list[str]]
"""A choice as source text, and the canonical names it must become, in order."""


@st.composite
def attention_choices(draw: st.DrawFn) -> Written:
    parts: list[Written] = []
    for kind in draw(st.lists(st.sampled_from(["parent", "gqa", "linear", "noop"]), min_size=1, max_size=4)):
        if kind != "gqa":
            parts.append((kind, [kind]))
            continue
        heads = draw(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4))
        windows = draw(st.none() | st.lists(st.sampled_from([None, 512, 8192]), min_size=1, max_size=3))
        said = " | ".join(str(w or "full") for w in windows or [])
        text = f"gqa(kv_heads: {' | '.join(map(str, heads))}" + (f", window: {said})" if said else ")")
        names = [
            "parent" if kv == KV_HEADS and window is None else f"gqa{kv}" + (f"w{window}" if window else "")
            for kv in heads
            for window in (windows or [None])
        ]
        parts.append((text, names))
    return joined(parts)


@st.composite
def ffn_choices(draw: st.DrawFn) -> Written:
    parts: list[Written] = []
    for kind in draw(st.lists(st.sampled_from(["parent", "mlp", "linear", "noop"]), min_size=1, max_size=4)):
        if kind != "mlp":
            parts.append((kind, [kind]))
            continue
        shares = draw(st.lists(st.integers(20, 90) | st.just(100), min_size=1, max_size=4))
        multiple = draw(st.sampled_from([None, 1, 32, 64]))
        text = f"mlp(width: {' | '.join(f'{share}%' for share in shares)}"
        text += f", round: {multiple})" if multiple else ")"
        parts.append((text, [mlp(share, multiple or 1) for share in shares]))
    return joined(parts)


def mlp(share: int, multiple: int) -> str:
    exact = Fraction(share * WIDTH, 100)
    below = exact // multiple * multiple
    width = below if exact - below < Fraction(multiple, 2) else below + multiple
    return "parent" if width == WIDTH else f"mlp{width}"


def joined(parts: list[Written]) -> Written:
    names = [name for _, names in parts for name in names]
    return " | ".join(text for text, _ in parts), list(dict.fromkeys(names))


def names_of(space: nodes.Space, sub_block: str) -> list[list[str]]:
    return [[a.name for a in getattr(layer, sub_block)] for layer in space.layers]


@pytest.mark.states(
    "space.choice",
    "space.multiply",
    "space.once",
    "space.width",
    "space.round",
    "space.kv-heads",
    "space.parents-own",
)
@given(attention_choices(), ffn_choices())
@settings(max_examples=cases(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_choices_multiply_out(attention: Written, ffn: Written) -> None:
    text = PARENT + f"space w of p {{\n  attention = {attention[0]}\n  ffn = {ffn[0]}\n}}\n"
    with tempfile.TemporaryDirectory() as folder:
        space = lowered(Path(folder), text).spaces["w"]
    assert names_of(space, "attention") == [attention[1]] * LAYERS
    assert names_of(space, "ffn") == [ffn[1]] * LAYERS


SLICES = st.sampled_from(
    [
        ("layers[0]", {0}),
        ("layers[-1]", {5}),
        ("layers[..1, -1]", {0, 1, 5}),
        ("layers[2..4]", {2, 3, 4}),
        ("layers[-3..]", {3, 4, 5}),
        ("layers[..]", set(range(6))),
        ("layers[1..-2]", {1, 2, 3, 4}),
        ("layers[1..4 step 2]", {1, 3}),
        ("layers[.. step 4]", {0, 4}),
        ("layers[..3 step 3]", {0, 3}),
        ("layers[0.. step 5]", {0, 5}),
        ("layers[0, 4 where index > 1]", {4}),
        ("layers", set(range(6))),
        ("layers[where index mod 2 == 1]", {1, 3, 5}),
        ("layers[2.. where index mod 2 == 0 and index != 4]", {2}),
    ]
)
Edit = Callable[[list[str]], list[str]]
ALL = ["parent", "gqa4", "gqa2", "linear", "noop"]
EDITS = st.sampled_from(
    [
        ("=", "parent", lambda old: ["parent"]),
        ("=", "noop | gqa(kv_heads: 2)", lambda old: ["noop", "gqa2"]),
        ("|=", "linear | parent", lambda old: [*old, *(n for n in ("linear", "parent") if n not in old)]),
        ("-=", "noop", lambda old: [n for n in old if n != "noop"]),
        ("-=", "gqa(kv_heads: <= 2) | linear", lambda old: [n for n in old if n not in ("gqa2", "linear")]),
        ("&=", "gqa(kv_heads: >= 4) | noop", lambda old: [n for n in old if n in ("parent", "gqa4", "noop")]),
        ("&=", "gqa(kv_heads: 8 | 2)", lambda old: [n for n in old if n in ("parent", "gqa2")]),
        ("&=", "parent", lambda old: [n for n in old if n == "parent"]),
    ]
)


@pytest.mark.states(
    "overrides.operators", "overrides.order", "overrides.slices", "overrides.negative", "overrides.step", "overrides.where",
    "overrides.empty", "patterns.name", "patterns.several",
)  # fmt: skip
@given(st.lists(st.tuples(SLICES, EDITS), max_size=4))
@settings(max_examples=cases(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_overrides_in_order(edits: list[tuple[tuple[str, set[int]], tuple[str, str, Edit]]]) -> None:
    rows = [list(ALL) for _ in range(LAYERS)]
    lines = [f"  attention = {' | '.join(ALL).replace('gqa4 | gqa2', 'gqa(kv_heads: 4 | 2)')}"]
    for (where, layers), (op, text, edit) in edits:
        lines.append(f"  {where}.attention {op} {text}")
        rows = [edit(row) if i in layers else row for i, row in enumerate(rows)]
    text = PARENT + "space w of p {\n" + "\n".join(lines) + "\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        found = checked(Path(folder), text)
    if all(rows):
        assert {d.code for d in found.diagnostics} <= {"W0412"} and found.program is not None
        assert names_of(found.program.spaces["w"], "attention") == rows
    else:
        assert "E0403" in {d.code for d in found.diagnostics}
