"""Spaces: alternatives, overrides, patterns, sub-spaces."""

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir import nodes
from puzzledsl.plan.bld import bld_plan
from tests.language.rules import WIDE, codes, edited, hybrid, mixture, narrowed, program, search, space


def names(found: nodes.Space, sub_block: SubBlock, layer: int = 0) -> str:
    """A layer's alternatives, blanks between them."""
    return " ".join(a.name for a in getattr(found.layers[layer], sub_block))


def changed(folder: Path, line: str, sub_block: SubBlock = "ffn") -> list[str]:
    """The alternatives of every layer after one override."""
    found = program(folder, edited(line)).spaces["v"]
    return [names(found, sub_block, layer) for layer in range(4)]


@pytest.mark.states("space.experts", "space.own-width", "patterns.parents-own")
def test_mixtures(tmp_path: Path) -> None:
    def ffn(body: str) -> str:
        return names(program(tmp_path, mixture(body)).spaces["v"], "ffn")

    assert ffn("ffn = moe(experts: 32 | 64, top_k: 2 | 4)") == "moe32k2w64 moe32k4w64 moe64k2w64 parent"
    assert ffn("ffn = moe(width: 50% | 100%) | moe(top_k: 2)") == "moe64k4w32 parent moe64k2w64"
    assert ffn("ffn = mlp(width: 50% | 100%)") == "mlp128 mlp256"
    assert ffn("ffn = moe(experts: 64 | 32)\n layers.ffn &= moe(experts: <= 32)") == "moe32k4w64"
    assert ffn("ffn = moe(width: 100% | 50%)\n layers.ffn &= moe(width: >= 75%)") == "parent"
    offered, mlps = "ffn = moe(experts: 8 | 4, top_k: 2, width: 50%) | parent", " | mlp(width: 50%)"
    assert ffn(f"{offered}\n layers.ffn &= moe(experts: <= 8)") == "moe8k2w32 moe4k2w32"
    assert ffn(f"{offered}\n layers.ffn &= moe(top_k: 2, width: 50%)") == "moe8k2w32 moe4k2w32"
    assert ffn(f"{offered}{mlps}\n layers.ffn -= mlp(width: 50%) | moe(experts: < 8)") == "moe8k2w32 parent"


@pytest.mark.states("space.kinds", "space.own-width", "space.kinds-fit", "overrides.kinds")
def test_layers_of_several_kinds(tmp_path: Path) -> None:
    body = (
        "attention = gqa(kv_heads: 4 | 2) | linear | noop\n ffn = mlp(width: 50%) | moe(experts: 4) | linear\n"
        " layers.ffn |= noop\n layers[1].ffn -= linear"
    )
    found = program(tmp_path, hybrid(body)).spaces["v"]
    rows = [(names(found, "attention", layer), names(found, "ffn", layer)) for layer in range(5)]
    assert rows == [
        ("linear noop", "parent"),
        ("parent", "mlp96 noop"),
        ("linear noop", "parent"),
        ("parent gqa2 linear noop", "parent"),
        ("parent", "mlp48 moe4k2w48 linear noop"),
    ]
    kept = program(tmp_path, hybrid("attention = gqa(kv_heads: 2), ffn = moe(experts: 4)")).spaces["v"]
    assert [names(kept, "attention", layer) for layer in range(5)] == ["parent"] * 3 + ["gqa2", "parent"]
    assert [names(kept, "ffn", layer) for layer in range(5)] == ["parent"] * 4 + ["moe4k2w48"]


@pytest.mark.states("space.parents-own")
def test_each_layer_has_its_own_parent(tmp_path: Path) -> None:
    parent = (
        "parent m = shape(family: gpt_oss, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, vocab: 256,\n"
        " experts: 8, top_k: 2, expert_width: 48)\n"
    )
    text = parent + "space v of m { attention = gqa(window: 8Ki | 64) }"
    found = program(tmp_path, text).spaces["v"]
    assert [names(found, "attention", layer) for layer in (0, 1)] == ["parent gqa4w64", "gqa4w8192 gqa4w64"]
    said = "search t of v { minimize params, require count(attention is gqa(window: >= 128)) >= 1 }"
    (required,) = program(tmp_path, f"{text}\n{said}").searches["t"].requirements
    assert isinstance(required, nodes.LinearRequirement)
    terms = [each.term for each in required.left.terms]
    assert [(term.layers, term.alternatives) for term in terms if isinstance(term, nodes.CountTerm)] == [
        ((0, 2), ("parent",)),
        ((1, 3), ("gqa4w8192",)),
    ]


@pytest.mark.parametrize(
    ("rule", "body", "attention", "ffn"),
    [
        pytest.param(rule, *case, marks=pytest.mark.states(rule), id=f"{rule}-{i}")
        for rule, cases in {
            "space.left-out": [("ffn = noop", "parent", "noop"), ("attention = noop", "noop", "parent")],
            "space.sinks": [
                ("attention = gqa(kv_heads: 4 | 2, window: full | 64, sinks: 4)", "parent gqa4w64s4 gqa2 gqa2w64s4", "parent"),
                ("attention = gqa(kv_heads: 4, window: 64, sinks: 0)", "gqa4w64", "parent"),
            ],
            "space.dtype": [
                ("attention = gqa(kv_heads: 4 | 2, dtype: full | int8), ffn = parent(dtype: q8_0) | mlp(width: 50%, dtype: q4_0)", "parent gqa2 parent@int8 gqa2@int8", "parent@q8_0 mlp96@q4_0"),
                ("ffn = mlp(width: 100%, dtype: fp8 | q4_1) | linear(dtype: q5_0) | noop", "parent", "parent@fp8 parent@q4_1 linear@q5_0 noop"),
            ],
            "space.kv-cache": [
                ("attention = parent(kv_cache: full | fp8) | gqa(kv_heads: 4 | 2, kv_cache: fp8)", "parent parent@kv_fp8 gqa2@kv_fp8", "parent"),
                ("attention = gqa(kv_heads: 2, dtype: full | int8, kv_cache: full | fp8) | noop", "gqa2 gqa2@int8 gqa2@kv_fp8 gqa2@int8@kv_fp8 noop", "parent"),
            ],
            "space.dtype-rows": [("ffn = mlp(width: 40, dtype: q8_0 | q5_0 | q4_0 | int8)", "parent", "mlp40@q8_0 mlp40@q5_0 mlp40@q4_0 mlp40@int8")],
            "space.heads": [
                ("attention = gqa(heads: 8 | 4, kv_heads: 4 | 2)", "parent gqa4h4 gqa2 gqa2h4", "parent"),
                ("attention = gqa(heads: 4, window: 64) | gqa(window: 64)", "gqa4h4w64 gqa4w64", "parent"),
            ],
        }.items()
        for i, case in enumerate(cases)
    ],
)  # fmt: skip
def test_what_choices_mean(tmp_path: Path, rule: str, body: str, attention: str, ffn: str) -> None:
    found = program(tmp_path, space(body)).spaces["v"]
    assert (names(found, "attention"), names(found, "ffn")) == (attention, ffn), rule


BLD = '\ndata d = text("d")\nbld b of v { tokens = 1k }'


@pytest.mark.states("space.parents-own")
def test_nothing_is_trained_for_the_parents_own(tmp_path: Path) -> None:
    text = space("attention = gqa(kv_heads: 4), ffn = mlp(width: 100%)") + BLD
    assert bld_plan(program(tmp_path, text), "b") == ()


@pytest.mark.states("space.round")
def test_rounding_is_recorded(tmp_path: Path) -> None:
    found = program(tmp_path, space("ffn = mlp(width: 30% | 50%, round: 16)")).spaces["v"].roundings
    assert [(r.asked, r.exact, r.width) for r in found] == [("30%", Fraction("57.6"), 64)]


@pytest.mark.states("space.of-space")
def test_a_space_of_a_space(tmp_path: Path) -> None:
    narrow = "space u of v { ffn = parent | linear, layers[1].attention -= linear, init { gqa = mean_pool } }"
    found = program(tmp_path, f"{space(WIDE)}\n{narrow}").spaces
    assert names(found["u"], "attention") == names(found["v"], "attention")
    assert names(found["u"], "attention", 1) == "parent gqa2 gqa1 noop"
    assert names(found["u"], "ffn") == "parent linear"
    assert (found["u"].init.gqa, found["v"].init.gqa) == ("mean_pool", "least_squares")


@pytest.mark.states("space.dtype")
def test_the_parents_own_in_another_type_is_a_piece(tmp_path: Path) -> None:
    text = space("ffn = parent(dtype: full | q8_0 | int4)") + BLD
    jobs = bld_plan(program(tmp_path, text), "b")
    assert [job.ffn.name for job in jobs[:2] if job.ffn] == ["parent@q8_0", "parent@int4"] and len(jobs) == 8
    nearest = text.replace("int4)", "int4), init { quantise = nearest }")
    others = bld_plan(program(tmp_path, nearest), "b")
    assert not {job.id for job in jobs} & {job.id for job in others}
    assert [jobs[0].init, others[0].init] == ["gptq", "nearest"]


@pytest.mark.states("space.dtype")
def test_pieces_without_a_type_keep_their_ids(tmp_path: Path) -> None:
    plain = bld_plan(program(tmp_path, space("ffn = mlp(width: 50%)") + BLD), "b")
    wide = space("ffn = mlp(width: 50%, dtype: full | q8_0), init { quantise = nearest }") + BLD
    assert {job.id for job in plain} == {job.id for job in bld_plan(program(tmp_path, wide), "b")[::2]}


@pytest.mark.states("init.choice")
def test_initialisers(tmp_path: Path) -> None:
    text = space(f"{WIDE}\n init {{ gqa = mean_pool, moe = least_squares }}")
    assert program(tmp_path, text).spaces["v"].init == nodes.Initialisers(
        gqa="mean_pool", mlp="least_squares"
    )


# ---------------------------------------------------------------- overrides

ALL = "parent mlp144 mlp96 noop"


@pytest.mark.states("overrides.places")
def test_both_sub_blocks_at_once(tmp_path: Path) -> None:
    found = program(tmp_path, edited("layers[0] = parent\n layers[1] -= noop")).spaces["v"]
    assert (names(found, "attention"), names(found, "ffn")) == ("parent", "parent")
    assert names(found, "attention", 1) == "parent gqa2 gqa1 linear"
    assert names(found, "ffn", 1) == "parent mlp144 mlp96"


@pytest.mark.states("overrides.order")
def test_later_lines_win(tmp_path: Path) -> None:
    later = changed(tmp_path, "layers[..].ffn = noop\n layers[1].ffn = linear")
    assert later == ["noop", "linear", "noop", "noop"]
    assert changed(tmp_path, "layers[1].ffn = linear\n layers[..].ffn = noop") == ["noop"] * 4
    before = space(f"layers[1].ffn = linear\n {WIDE}")
    assert names(program(tmp_path, before).spaces["v"], "ffn", 1) == "linear"


@pytest.mark.states("overrides.slices", "overrides.negative", "overrides.step", "overrides.where")
def test_selections_are_the_same_in_a_search(tmp_path: Path) -> None:
    one, other = "layers[-2.. step 1 where index > 2]", "layers[..1, -1]"
    text = search(f"require sum({one}.ffn.width) <= 3\n require count({other}.ffn is noop) <= 2")
    found = program(tmp_path, text).searches["s"].requirements
    assert [r.left.terms[0].term.layers for r in found] == [(3,), (0, 1, 3)]  # type: ignore[union-attr]


@pytest.mark.states("overrides.empty")
def test_a_layer_may_be_empty_between_two_lines(tmp_path: Path) -> None:
    assert changed(tmp_path, "layers[1].ffn -= noop | mlp\n layers[1].ffn |= linear")[1] == "linear"


@pytest.mark.states("overrides.for")
def test_repeated_overrides(tmp_path: Path) -> None:
    line = "for i in 0..3 where i mod 2 == 0 {\n  let j = i + 1\n  layers[j].ffn = noop\n }"
    assert changed(tmp_path, line) == [ALL, "noop", ALL, "noop"]
    nested = changed(tmp_path, "for l in [0, 3] { for m in [l] { layers[m].ffn -= noop } }")
    assert nested[3] == "parent mlp144 mlp96"


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("sub_block", "choice", "kept"),
    [
        pytest.param(
            "ffn",
            "parent | mlp(width: 75% | 50%) | noop",
            {
                "mlp(width: 96)": "mlp96", "mlp(width: == 96)": "mlp96", "mlp(width: != 96)": "parent mlp144",
                "mlp(width: 96 | 144)": "mlp144 mlp96", "mlp(width: < 144)": "mlp96", "mlp(width: > 96)": "parent mlp144",
                "mlp(width: <= 144)": "mlp144 mlp96", "mlp(width: >= 96)": "parent mlp144 mlp96", "parent": "parent",
                "mlp(width: > 96, width: < 192)": "mlp144", "mlp(width: >= 75%)": "parent mlp144",
                "mlp": "parent mlp144 mlp96", "mlp(width: 192)": "parent",
            },
            marks=pytest.mark.states("patterns.tests", "patterns.parents-own", "patterns.percent"),
        ),
        pytest.param(
            "ffn",
            "mlp(width: 30% | 100%, round: 16)",  # 57.6 becomes 64, a third
            {"mlp(width: <= 30%)": "mlp64", "mlp(width: 30%)": "mlp64", "mlp(width: >= 64)": "mlp64 parent", "mlp(width: 64)": "mlp64"},
            marks=pytest.mark.states("patterns.tests", "patterns.parents-own", "patterns.percent"),
        ),
        pytest.param(
            "attention",
            "gqa(kv_heads: 4 | 2, window: full | 1Ki | 8Ki)",
            {
                "gqa(window: full)": "parent gqa2",
                "gqa(window: >= 4Ki)": "parent gqa4w8192 gqa2 gqa2w8192",
                "gqa(window: < 4Ki)": "gqa4w1024 gqa2w1024",
                "gqa(kv_heads: 4, window: <= 8Ki)": "gqa4w1024 gqa4w8192",
            },
            marks=pytest.mark.states("patterns.parents-own", "patterns.window"),
        ),
        pytest.param(
            "ffn",
            "parent(dtype: full | q8_0 | q4_0) | mlp(width: 50%, dtype: full | q4_0)",
            {
                "parent": "parent parent@q8_0 parent@q4_0",
                "parent(dtype: full)": "parent",
                "mlp(dtype: q8_0 | q4_0)": "parent@q8_0 parent@q4_0 mlp96@q4_0",
                "mlp(width: 50%, dtype: != q4_0)": "mlp96",
            },
            marks=pytest.mark.states("patterns.dtype"),
        ),
        pytest.param(
            "attention",
            "parent(kv_cache: full | fp8) | gqa(kv_heads: 2, kv_cache: full | fp8)",
            {
                "parent": "parent parent@kv_fp8",
                "parent(kv_cache: full)": "parent",
                "gqa(kv_cache: fp8 | q8_0)": "parent@kv_fp8 gqa2@kv_fp8",
                "gqa(kv_heads: 2, kv_cache: != fp8)": "gqa2",
                "gqa(kv_heads: 2)": "gqa2 gqa2@kv_fp8",
            },
            marks=pytest.mark.states("patterns.kv-cache"),
        ),
    ],
)  # fmt: skip
def test_what_matches(tmp_path: Path, sub_block: SubBlock, choice: str, kept: dict[str, str]) -> None:
    for pattern, names_kept in kept.items():
        text = space(f"{sub_block} = {choice}\n layers[0].{sub_block} &= {pattern}")
        assert names(program(tmp_path, text).spaces["v"], sub_block) == names_kept, pattern


def test_another_percentage_of_the_same_width_matches_nothing(tmp_path: Path) -> None:
    text = space("ffn = mlp(width: 30% | 100%, round: 16)\n layers[0].ffn &= mlp(width: 33%)")
    assert codes(tmp_path, text) == "E0403"


@pytest.mark.states("used-by.space")
def test_the_part_that_winners_use(tmp_path: Path) -> None:
    text = "search s of w { minimize kl }\nspace n of w = used_by(s, top: 3)\nspace m of w = used_by(s)"
    found = program(tmp_path, text).spaces
    assert found["n"].used_by == nodes.UsedBy(search="s", top=3)
    assert found["m"].used_by == nodes.UsedBy(search="s", top=10)
    assert found["n"].layers == found["w"].layers


@pytest.mark.states("used-by.init")
def test_a_narrowed_space_with_other_starts(tmp_path: Path) -> None:
    found = program(tmp_path, narrowed("init { mlp = channel_contribution }")).spaces
    assert found["r"].used_by == found["n"].used_by == nodes.UsedBy(search="s", top=3)
    assert found["r"].layers == found["n"].layers
    assert (found["n"].init.mlp, found["r"].init.mlp) == ("least_squares", "channel_contribution")
