"""Differences that `pzl plan` tells of two programs: none where they mean the same, each once, and the work that it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.changes.compare import ProgramChanges, as_text, compare
from puzzledsl.ir.nodes import Program
from puzzledsl.plan.bld import bld_plan
from tests.checker.programs import NEMOTRON, lowered

BASE = """\
param most: Ratio = 90%
parent p = shape(family: llama, layers: 6, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
hardware h = measured(device: cpu, memory: 16GiB)
scenario chat on h = batch(4, 128 -> 64)
space w of p {
  attention = parent | gqa(kv_heads: 2) | noop
  ffn = parent | mlp(width: 50%) | noop
  layers[0] = parent
}
data mix = text("corpus/*.txt")
bld pieces of w { train = attention + ffn, tokens = 1Ki, data = mix }
score kl of pieces = replace_one(kl_divergence, samples: 512)
search best of w {
  minimize kl
  require chat.memory <= most * h.memory
  require count(attention is noop) <= 2
  for i in 1..5 { require layers[i].attention is noop implies layers[i-1].attention is not noop }
  prefer -params
}
search small of best { minimize params }
uptrain final of best { tokens = 1Ki, loss = 1 * kld, data = mix }
export out of final = hf("child")
"""


@pytest.fixture
def changed(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Differences between BASE and BASE with replacements."""

    def changes(*edits: tuple[str, str], **settings: str) -> ProgramChanges:
        text = BASE
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        return compare(lowered(tmp_path, BASE), lowered(tmp_path, text, **settings))

    def program(*edits: tuple[str, str]) -> Program:
        text = BASE
        for old, new in edits:
            text = text.replace(old, new)
        return lowered(tmp_path, text)

    changes.program = program  # type: ignore[attr-defined]
    return changes


def told(changes: ProgramChanges) -> dict[str, list[str]]:
    """Declaration -> its details, in words."""
    return {
        f"{c.sign} {c.kind} {c.name}": [f"{d.sign} {d.what}: {d.old} -> {d.new}" for d in c.details]
        for c in changes.changes
    }


def test_a_program_changes_nothing_to_itself(tmp_path: Path) -> None:
    program = lowered(tmp_path, BASE)
    assert not compare(program, program)
    assert as_text(compare(program, program)) == "No changes: both programs mean the same."


def test_comments_places_and_order_change_nothing(tmp_path: Path) -> None:
    head, rest = BASE.split("data mix", 1)
    other = "# a comment\n\n## A doc comment.\ndata mix" + rest + head
    assert told(compare(lowered(tmp_path, BASE), lowered(tmp_path, other))) == {}


def test_a_compiled_program_is_the_program(tmp_path: Path) -> None:
    program = lowered(tmp_path, BASE)
    assert not compare(Program.from_json(program.canonical_json()), program)


def test_a_bound_that_moves_is_the_same_requirement(changed) -> None:  # type: ignore[no-untyped-def]
    changes = changed(most="80%")
    assert told(changes) == {
        "~ param most": ["~ value: 90% -> 80%"],
        "~ search best": ["~ require: chat.memory <= 14.4GiB -> chat.memory <= 12.8GiB"],
        "~ search small": ["~ require: chat.memory <= 14.4GiB -> chat.memory <= 12.8GiB"],
    }
    assert changes.pieces["pieces"].make == 0


def test_alternatives_are_told_by_layers(changed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    changes = changed(("mlp(width: 50%)", "mlp(width: 25%)"), ("layers[0] = parent", "layers[0, 3] = parent"))
    assert told(changes)["~ space w"] == [
        "- layer 3 attention: gqa2 | noop -> ",
        "- layers 1..2, 4..5 ffn: mlp96 -> ",
        "- layer 3 ffn: mlp96 | noop -> ",
        "+ layers 1..2, 4..5 ffn:  -> mlp48",
    ]
    pieces = changes.pieces["pieces"]
    assert (pieces.make, pieces.keep, pieces.drop, pieces.tokens) == (4, 4, 6, 4 * 1024)


def test_what_follows_from_the_space_is_told_once(changed) -> None:  # type: ignore[no-untyped-def]
    """Without a no-op, `count(attention is noop)` counts nothing, and still is the requirement it was."""
    changes = changed(("gqa(kv_heads: 2) | noop", "gqa(kv_heads: 2)"))
    assert list(told(changes)) == ["~ space w"]


@pytest.mark.parametrize(
    ("old", "new", "where", "detail"),
    [
        ("minimize kl", "minimize 2 * kl", "search best", "~ goal: minimize kl -> minimize 2 * kl"),
        ("<= 2\n", "<= 3\n", "search best", "~ require: count(attention is noop) <= 2 -> "
         "count(attention is noop) <= 3"),
        ("prefer -params", "prefer -chat.latency", "search best",
         "~ prefer: minimize params -> minimize chat.latency"),
        ("  prefer -params\n", "", "search best", "- prefer: minimize params -> "),
        ("attention is noop)", "layers[..3].attention is noop)", "search best",
         "- require: count(attention is noop) <= 2 -> "),
        ("memory: 16GiB", "memory: 8GiB", "hardware h", "~ spec.memory: 16GiB -> 8GiB"),
        ("batch(4,", "batch(4 | 8,", "scenario chat", "~ batch: [4] -> [4, 8]"),
        ("tokens = 1Ki, loss", "tokens = 2Ki, loss", "uptrain final", "~ tokens: 1024 -> 2048"),
        ('hf("child")', 'hf("kid")', "export out", "~ path: child -> kid"),
        ("corpus/*", "texts/*", "data mix", '~ source.path: ["corpus/*.txt"] -> ["texts/*.txt"]'),
        ("in 1..5", "in 1..4", "search best",
         "- require: layers[i].attention is noop implies layers[i-1].attention is not noop -> "),
    ],
)  # fmt: skip
def test_each_difference_is_told(changed, old: str, new: str, where: str, detail: str) -> None:  # type: ignore[no-untyped-def]
    assert detail in told(changed((old, new)))[f"~ {where}"]


def test_a_rate_is_told_with_its_unit_and_a_place_is_none(tmp_path: Path) -> None:
    busy = BASE.replace("batch(4, 128 -> 64)", "traffic(2 req/s, 128 -> 64)")
    program = lowered(tmp_path, busy)
    assert told(compare(program, lowered(tmp_path, f"# a comment\n\n{busy}"))) == {}
    assert told(compare(program, lowered(tmp_path, busy.replace("2 req/s", "3 req/s")))) == {
        "~ scenario chat": ["~ traffic.rate: 2 req/s -> 3 req/s"],
        **{
            f"~ search {name}": ["~ require: chat.max_rate >= 2 req/s -> chat.max_rate >= 3 req/s"]
            for name in ("best", "small")
        },
    }


def test_a_table_of_a_narrower_space_is_the_same_requirement(changed) -> None:  # type: ignore[no-untyped-def]
    """An alternative that was removed has no cell; one that stayed has the cell it had."""
    table = "  require sum(l.ffn.width * l.attention.kv_heads for l in layers) <= 999\n  prefer -params"
    narrower = ("gqa(kv_heads: 2) | noop", "gqa(kv_heads: 2)")
    both = compare(*(changed.program(("  prefer -params", table), *more) for more in ((), (narrower,))))
    assert list(told(both)) == ["~ space w"]
    other = changed.program(("  prefer -params", table.replace("kv_heads for", "kv_heads * 2 for")), narrower)
    found = told(compare(changed.program(("  prefer -params", table)), other))
    assert list(found) == ["~ space w", "~ search best", "~ search small"]


def test_another_limit_of_a_structure_is_one_change(changed) -> None:  # type: ignore[no-untyped-def]
    """So it is where an alternative goes that the structure speaks of."""
    goal = "  minimize kl"
    narrower = ("mlp(width: 50%) | noop", "mlp(width: 50%)")
    for text in ("runs(attention is noop)", "longest(attention is noop)", "distinct(ffn.width)"):
        two, one = (f"{goal}\n  require {text} <= {most}" for most in (2, 1))
        old, new = changed.program((goal, two)), changed.program((goal, one))
        other = changed.program((goal, two), narrower)
        (detail,) = told(compare(old, new))["~ search best"]
        assert detail.startswith("~ require: ") and "<= 2 -> " in detail and detail.endswith("<= 1")
        assert "~ search best" not in told(compare(old, other))
    alike = (goal, f"{goal}\n  require layers[1].ffn same as layers[2].ffn")
    assert "~ search best" not in told(compare(changed.program(alike), changed.program(alike, narrower)))


def test_other_depths_are_told(changed) -> None:  # type: ignore[no-untyped-def]
    details = told(changed(("layers: 6", "layers: 7"), ("in 1..5", "in 1..5")))["~ space w"]
    assert details[0] == "~ layers: 6 -> 7"


def test_declarations_come_and_go(changed) -> None:  # type: ignore[no-untyped-def]
    changes = changed(("search small of best { minimize params }", "search tiny of best { maximize params }"))
    assert {(c.sign, c.kind, c.name) for c in changes.changes} == {
        ("+", "search", "tiny"),
        ("-", "search", "small"),
    }
    assert as_text(changes).endswith("Plan: 1 to add, 0 to change, 1 to remove.")


def test_many_instances_of_a_for_are_one_line(changed) -> None:  # type: ignore[no-untyped-def]
    loop = BASE[BASE.index("  for i") : BASE.index("  prefer")]
    assert told(changed((loop, "")))["~ search best"] == [
        "- require: layers[i].attention is noop implies layers[i-1].attention is not noop (5 times) -> "
    ]


def test_pieces_are_set_differences_of_jobs(changed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    old = lowered(tmp_path, BASE)
    new = lowered(tmp_path, BASE.replace("kv_heads: 2", "kv_heads: 2 | 1").replace("50%", "50% | 25%"))
    before, after = ({job.id for job in bld_plan(p, "pieces")} for p in (old, new))
    pieces = compare(old, new).pieces["pieces"]
    assert (pieces.make, pieces.keep, pieces.drop) == (len(after - before), len(after & before), 0)
    back = compare(new, old).pieces["pieces"]
    assert (back.make, back.keep, back.drop) == (0, len(before), len(after - before))


def test_a_renamed_bld_keeps_its_pieces(changed) -> None:  # type: ignore[no-untyped-def]
    changes = changed(("bld pieces", "bld parts"), ("kl of pieces", "kl of parts"))
    assert changes.pieces["parts"].make == 0


def test_the_paper_program_on_a_smaller_budget(tmp_path: Path) -> None:
    text = NEMOTRON.read_text("utf-8")
    old, new = lowered(tmp_path, text), lowered(tmp_path, text.replace("<= 51.5B", "<= 49B"))
    changes = compare(old, new)
    assert told(changes) == {
        f"~ search {name}": ["~ require: params <= 51.5B -> params <= 49B"]
        for name in ("nemotron51b", "maxparams")
    }
    assert changes.waiting == ("pairs",)
    assert as_text(changes).startswith(
        "~ search nemotron51b\n    ~ require: params <= 51.5B -> params <= 49B\n"
        "~ search maxparams\n    ~ as nemotron51b\n"
    )


REFINED = (
    ("parent p = shape(", 'parent p = hf("nowhere", shape: shape('),
    ("vocab: 256)", "vocab: 256))"),
    ("search small of best { minimize params }", "search rule of best { prefer params }"),
)


def refined(*edits: tuple[str, str]) -> str:
    """BASE with a parent that has weights, and edits."""
    text = BASE
    for old, new in (*REFINED, *edits):
        assert old in text
        text = text.replace(old, new)
    return text
