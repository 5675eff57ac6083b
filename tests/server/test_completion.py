"""Completion offers exactly what can be written there."""

from collections.abc import Collection
from pathlib import Path

import pytest

from puzzledsl.ir.metric_records import metrics_under
from puzzledsl.ir.search_nodes import REFINES, SOLVERS
from puzzledsl.language import kinds, words
from puzzledsl.language.kinds import ATTENTION, FFN, HARDWARE_FACTS, KINDS, PROFILE
from puzzledsl.language.words import TOP_KEYWORDS
from puzzledsl.server.completion import complete
from tests.server.texts import PROGRAM, marked

CHAT, BUSY = ({*metrics_under(traffic=traffic), *words.SCENARIO_FACTS} for traffic in (False, True))


def labels(text: str, folder: Path) -> list[str]:
    return [item.label for item in complete(*marked(text, folder))]


def after(tail: str) -> str:
    """The program with more behind it, where the cursor is."""
    return PROGRAM + tail


EXACT: dict[str, tuple[str, Collection[str]]] = {
    "a new line": ("‸", {*KINDS, *TOP_KEYWORDS}),
    "the name of a declaration": ("search n‸", set()),
    "behind a name": ("search n ‸", {"of"}),
    "behind the name of a scenario": ("scenario n ‸", {"on"}),
    "a target": ("search n of ‸", {"w", "cpsat"}),
    "a target half written": ("score n of b‸", {"b", "w"}),
    "hardware of a scenario": ("scenario n on ‸", {"h", "h100_sxm"}),
    "the type of a parameter": ("param x: ‸", words.TYPES),
    "metrics of traffic": ("scenario busy on h = traffic(2 req/s, 8 -> 8)\nlet x = busy.‸", BUSY),
    "metrics of a scenario by another name": ("let c = chat\nlet x = c.‸", CHAT),
    "of a name that is nobody's": ("let c = nobody\nlet x = c.‸", set()),
    "a number that is not at its end": ("let x = 3.‸", set()),
    "a number with half a unit": ("let x = 8m‸", set()),
    "metrics, half written": ("let x = chat.lat‸", CHAT),
    "facts of a parent": ("let x = p.‸", kinds.PARENT_FACTS),
    "facts of hardware": ("let x = h.‸", HARDWARE_FACTS),
    "a layer": ("search n of w { require layers[3].‸", words.LAYER_FACTS),
    "alternatives of several patterns": (
        "search n of w { require layers[1].attention is not (noop | ‸",
        ATTENTION,
    ),
    "sub-blocks": ("search n of w { require layers.‸", {"attention", "ffn"}),
    "a selection of layers": ("search n of w { require layers[1.. where index > 2].‸", words.LAYER_FACTS),
    "facts of a sub-block": ("search n of w { require layers[3].ffn.‸", words.SUB_BLOCK_FACTS["ffn"]),
    "facts of every attention": (
        "search n of w { minimize sum(attention.‸",
        words.SUB_BLOCK_FACTS["attention"],
    ),
    "a variable over layers": ("search n of w { for l in layers[1..] { require l.‸", words.LAYER_FACTS),
    "nothing behind a number's dot": ("let x = p.layers.‸", set()),
    "settings behind a comma": ("bld n of w { tokens = 1, ‸", {*KINDS["bld"].settings, "let", "assert"}),
    "statements of a search": (
        "search n of w {\n  minimize kl\n  ‸",
        {"solver", "realise", "refine", *KINDS["search"].statements},
    ),
    "statements behind a broken one": (
        "search n of w {\n  minimize = (\n}\nsearch m of w {\n  ‸",
        {"solver", "realise", "refine", *KINDS["search"].statements},
    ),
    "settings of a section": (
        "hardware n { efficiency { ‸",
        set(KINDS["hardware"].sections["efficiency"].settings),
    ),
    "initialisers": ("space n of w { init { gqa = ‸", {"least_squares", "mean_pool", "few", "headroom"}),
    "words of a closed list": ("bld n of w { loss = ‸", {"normalized_mse", "few", "headroom"}),
    "data": ("bld n of w { data = ‸", {"d", "few", "headroom"}),
    "alternatives of a pattern": ("search n of w { require layers[1].attention is ‸", ATTENTION),
    "alternatives of a negated pattern": ("search n of w { require layers[1].ffn is not l‸", FFN),
    "alternatives to remove": ("space n of w { layers[1].ffn -= ‸", FFN),
    "alternatives to keep": ("space n of w { layers[1].attention &= ‸", ATTENTION),
    "a comment": ("# sea‸", set()),
    "a string": ('assert true because "sea‸', set()),
}


@pytest.mark.parametrize(("tail", "wanted"), EXACT.values(), ids=EXACT.keys())
def test_offers_just_this(tail: str, wanted: Collection[str], tmp_path: Path) -> None:
    assert sorted(labels(after(tail), tmp_path)) == sorted(wanted)


@pytest.mark.parametrize(
    ("tail", "wanted", "unwanted"),
    [
        ("parent n = ‸", {"hf", "shape"}, {"let"}),
        ("hardware n = ‸", {"measured", "table", "h100_sxm", "h"}, set()),
        ("hardware n = h100_sxm(‸", set(PROFILE), set()),
        ("hardware n = h100_sxm(dtype: ‸", {"fp8", "bf16"}, set(PROFILE)),
        ("space n of p { attention = parent(‸", {"dtype", "kv_cache"}, {"window"}),
        ("space n of p { attention = parent(kv_cache: ‸", {"full", "fp8", "q8_0"}, {"q4_0"}),
        ("data n = ‸", {"text", "jsonl", "parquet", "hf", "mix", "d"}, set()),
        ('data n = jsonl("c", messages: m, loss: ‸', {"all", "answers"}, {"messages", "d"}),
        ("data n = mix(‸", {"d"}, {"chat", "w"}),
        ("data n = mix(d: ‸", {"few", "headroom"}, set()),
        ("score n of b = replace_one(‸", {"kl_divergence", "samples", "unit"}, set()),
        ("score n of b = replace_one(kl_divergence, unit: ‸", {"block", "subblock"}, {"samples"}),
        ("search n of w { solver = ‸", set(SOLVERS), set()),
        ("search n of w { solver = cpsat(‸", {"time", "gap", "seed"}, set()),
        ("search n of w { refine = ‸", set(REFINES), {"let", "require"}),
        ("search n of w { refine = measured(3, ‸", {"healed", "samples", "data"}, set()),
        ("search n of w { refine = measured(3, data: ‸", {"d"}, {"w"}),
        ("search one of w { minimize kl }\neval n of one { full = one + ‸", {"one"}, {"d", "w", "kl"}),
        ("eval n of one { ‸", {"full", "items", "data"}, {"require"}),
        ("space n of p { attention = ‸", set(ATTENTION), {"mlp"}),
        ("space n of p { ffn = mlp(width: 50%) | ‸", set(FFN), {"gqa"}),
        ("space n of p { ffn = mlp(‸", {"width", "round"}, {"kv_heads"}),
        ("space n of w { layers[2].ffn |= ‸", set(FFN), {"gqa"}),
        ("space n of w { ‸", {"attention", "ffn", "layers", "init", "for", "let", "assert"}, {"require"}),
        ("let x = h‸", {"half", "headroom", "h", "sum", "chat", "kl"}, {"layers"}),
        ("let x = half(‸", {"x", "few", "sum"}, set()),
        ("fn f(mine, yours) = ‸", {"mine", "yours", "few"}, set()),
        ("search n of w { require ‸", {"layers", "params", "chat", "kl", "few", "sum"}, set()),
        ("search n of w { let mine = 1\n  require params <= ‸", {"mine", "few"}, set()),
        ("search n of w { for i in 1..3 { require layers[‸", {"i"}, set()),
        ("search n of w { require params ‸", {"because", "and", "implies"}, {"few", "sum"}),
        ("search n of w { require layers[1] sa‸", {"same as"}, {"few"}),
        ("search n of w { require layers[1] same ‸", {"as", "and"}, {"few"}),
        ("search n of w { require layers[1] same as ‸", {"layers", "attention"}, {"and"}),
        ("search n of w { require ‸", {"runs", "longest", "distinct"}, set()),
        ("search n of w { require params <= 3\n    ‸", {"require", "solver"}, set()),
    ],
)
def test_offers_among_others(tail: str, wanted: set[str], unwanted: set[str], tmp_path: Path) -> None:
    found = set(labels(after(tail), tmp_path))
    assert wanted <= found
    assert not unwanted & found


def test_files_and_their_names(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "lib.pzl").write_text("let one = 1\nlet two = 2\n", "utf-8")
    found = labels('use "‸', tmp_path)
    assert {"std/hardware.pzl", "std/parents.pzl", "inner/lib.pzl"} <= set(found)
    assert "program.pzl" not in found
    items = complete(*marked('use "std/ha‸"', tmp_path))
    (hardware,) = (i for i in items if i.label == "std/hardware.pzl")
    assert hardware.text_edit is not None
    edited = hardware.text_edit.range  # type: ignore[union-attr]
    assert (edited.start.character, edited.end.character) == (5, 11)
    assert labels('use "inner/lib.pzl" (one, ‸', tmp_path) == ["two"]
    assert labels('use "inner/lib.pzl" ‸', tmp_path) == ["as"]
    assert "h200" in labels('use "std/hardware.pzl" (‸', tmp_path)
    assert labels('use "inner/lib.pzl" as lib\nlet x = lib.‸', tmp_path) == ["one", "two"]
    for nothing in ('use "no.pzl" (‸', "use lib (‸", 'use "inner/lib.pzl"‸', 'use "inner/lib.pzl" (one) ‸'):
        assert labels(nothing, tmp_path) == [], nothing


def test_a_name_is_offered_as_soon_as_it_is_declared(tmp_path: Path) -> None:
    long = "".join(f"let a{i} = {i}\n" for i in range(100))
    document, line, column = marked(long + "let x = ‸", tmp_path)
    before = {i.label for i in complete(document, line, column)}
    assert {"a0", "a99"} <= before
    document, line, column = marked(long + "let new = 1\nlet x = ‸", tmp_path, document.project)
    assert {i.label for i in complete(document, line, column)} - before == {"new"}
