"""Differences that `pzl plan` tells of two programs: none where they mean the same, each once, and the work that it makes."""

from pathlib import Path

import pytest

from puzzledsl.changes.compare import ProgramChanges, as_text, compare, requirement_text
from puzzledsl.ir.nodes import Program
from puzzledsl.plan.bld import bld_plan
from tests.checker.programs import NEMOTRON, TINY, lowered

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


Edit = tuple[str, str]


def edited(folder: Path, *edits: Edit, **settings: str) -> Program:
    """BASE with replacements, lowered."""
    text = BASE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return lowered(folder, text, **settings)


def changes(folder: Path, *edits: Edit, **settings: str) -> ProgramChanges:
    """Differences between BASE and BASE with replacements."""
    return compare(edited(folder), edited(folder, *edits, **settings))


def told(found: ProgramChanges) -> dict[str, list[str]]:
    """Declaration -> its details, in words."""
    return {
        f"{c.sign} {c.kind} {c.name}": [f"{d.sign} {d.what}: {d.old} -> {d.new}" for d in c.details]
        for c in found.changes
    }


def test_comments_places_and_order_change_nothing(tmp_path: Path) -> None:
    program = lowered(tmp_path, BASE)
    head, rest = BASE.split("data mix", 1)
    moved = lowered(tmp_path, "# a comment\n\n## A doc comment.\ndata mix" + rest + head)
    for same in (program, moved, Program.from_json(program.canonical_json())):
        assert not compare(same, program) and told(compare(program, same)) == {}
    with pytest.raises(ValueError, match="no metric of a search is called 'weight'"):
        Program.from_json(program.canonical_json().replace('"memory"', '"weight"'))
    assert as_text(compare(program, program)) == "No changes: both programs mean the same."


def test_a_bound_that_moves_is_the_same_requirement(tmp_path: Path) -> None:
    found = changes(tmp_path, most="80%")
    moved = ["~ require: chat.memory <= 14.4GiB -> chat.memory <= 12.8GiB"]
    assert told(found) == {
        "~ param most": ["~ value: 90% -> 80%"], "~ search best": moved, "~ search small": moved
    }  # fmt: skip
    assert found.pieces["pieces"].make == 0


def test_alternatives_are_told_by_layers(tmp_path: Path) -> None:
    found = changes(
        tmp_path, ("mlp(width: 50%)", "mlp(width: 25%)"), ("layers[0] = parent", "layers[0, 3] = parent")
    )
    assert told(found)["~ space w"] == [
        "- layer 3 attention: gqa2 | noop -> ",
        "- layers 1..2, 4..5 ffn: mlp96 -> ",
        "- layer 3 ffn: mlp96 | noop -> ",
        "+ layers 1..2, 4..5 ffn:  -> mlp48",
    ]
    pieces = found.pieces["pieces"]
    assert (pieces.make, pieces.keep, pieces.drop, pieces.tokens) == (4, 4, 6, 4 * 1024)


def test_what_follows_from_the_space_is_told_once(tmp_path: Path) -> None:
    """Without a no-op, `count(attention is noop)` counts nothing, and still is the requirement it was."""
    found = changes(tmp_path, ("gqa(kv_heads: 2) | noop", "gqa(kv_heads: 2)"))
    assert list(told(found)) == ["~ space w"]


@pytest.mark.parametrize(
    ("old", "new", "where", "detail"),
    [
        ("minimize kl", "minimize 2 * kl", "search best", "~ goal: minimize kl -> minimize 2 * kl"),
        ("kl\n  r", "sum(ffn.width) + count(ffn is noop) + sum(l.ffn.width * l.attention.kv_heads for l in layers)\n  r",
         "search best", "~ goal: minimize kl -> minimize sum(ffn.width) + count(ffn is noop) + a table over 5 layers + 768"),
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
        ("layers: 6", "layers: 7", "space w", "~ layers: 6 -> 7"),
        ('hf("child")', 'hf("kid")', "export out", "~ path: child -> kid"),
        ("corpus/*", "texts/*", "data mix", '~ source.path: ["corpus/*.txt"] -> ["texts/*.txt"]'),
        ("in 1..5", "in 1..4", "search best",
         "- require: layers[i].attention is noop implies layers[i-1].attention is not noop -> "),
    ],
)  # fmt: skip
def test_each_difference_is_told(tmp_path: Path, old: str, new: str, where: str, detail: str) -> None:
    assert detail in told(changes(tmp_path, (old, new)))[f"~ {where}"]


def test_a_rate_is_told_with_its_unit_and_a_place_is_none(tmp_path: Path) -> None:
    busy = BASE.replace("batch(4, 128 -> 64)", "traffic(2 req/s, 128 -> 64)")
    program = lowered(tmp_path, busy)
    assert told(compare(program, lowered(tmp_path, f"# a comment\n\n{busy}"))) == {}
    found = told(compare(program, lowered(tmp_path, busy.replace("2 req/s", "3 req/s"))))
    assert found.pop("~ scenario chat") == ["~ traffic.rate: 2 req/s -> 3 req/s"]
    faster = ["~ require: chat.max_rate >= 2 req/s -> chat.max_rate >= 3 req/s"]
    assert found == {"~ search best": faster, "~ search small": faster}


def test_a_table_of_a_narrower_space_is_the_same_requirement(tmp_path: Path) -> None:
    """An alternative that was removed has no cell; one that stayed has the cell it had."""
    table = "  require sum(l.ffn.width * l.attention.kv_heads for l in layers) <= 999\n  prefer -params"
    narrower = ("gqa(kv_heads: 2) | noop", "gqa(kv_heads: 2)")
    both = compare(*(edited(tmp_path, ("  prefer -params", table), *more) for more in ((), (narrower,))))
    assert list(told(both)) == ["~ space w"]
    other = edited(
        tmp_path, ("  prefer -params", table.replace("kv_heads for", "kv_heads * 2 for")), narrower
    )
    found = told(compare(edited(tmp_path, ("  prefer -params", table)), other))
    assert list(found) == ["~ space w", "~ search best", "~ search small"]


def test_another_limit_of_a_structure_is_one_change(tmp_path: Path) -> None:
    """So it is where an alternative goes that the structure speaks of."""
    goal = "  minimize kl"
    narrower = ("mlp(width: 50%) | noop", "mlp(width: 50%)")
    for text in ("runs(attention is noop)", "longest(attention is noop)", "distinct(ffn.width)"):
        two, one = (f"{goal}\n  require {text} <= {most}" for most in (2, 1))
        old, new = edited(tmp_path, (goal, two)), edited(tmp_path, (goal, one))
        other = edited(tmp_path, (goal, two), narrower)
        (detail,) = told(compare(old, new))["~ search best"]
        assert detail.startswith("~ require: ") and "<= 2 -> " in detail and detail.endswith("<= 1")
        assert "~ search best" not in told(compare(old, other))
    alike = (goal, f"{goal}\n  require layers[1].ffn same as layers[2].ffn")
    assert "~ search best" not in told(compare(edited(tmp_path, alike), edited(tmp_path, alike, narrower)))


def test_declarations_come_and_go(tmp_path: Path) -> None:
    found = changes(
        tmp_path, ("search small of best { minimize params }", "search tiny of best { maximize params }")
    )
    assert told(found).keys() == {"+ search tiny", "- search small"}
    assert as_text(found).endswith("Plan: 1 to add, 0 to change, 1 to remove.")


def test_many_instances_of_a_for_are_one_line(tmp_path: Path) -> None:
    loop = BASE[BASE.index("  for i") : BASE.index("  prefer")]
    assert told(changes(tmp_path, (loop, "")))["~ search best"] == [
        "- require: layers[i].attention is noop implies layers[i-1].attention is not noop (5 times) -> "
    ]


def test_pieces_are_set_differences_of_jobs(tmp_path: Path) -> None:
    old = edited(tmp_path)
    new = edited(tmp_path, ("kv_heads: 2", "kv_heads: 2 | 1"), ("50%", "50% | 25%"))
    before, after = ({job.id for job in bld_plan(p, "pieces")} for p in (old, new))
    pieces = compare(old, new).pieces["pieces"]
    assert (pieces.make, pieces.keep, pieces.drop) == (len(after - before), len(after & before), 0)
    back = compare(new, old).pieces["pieces"]
    assert (back.make, back.keep, back.drop) == (0, len(before), len(after - before))


def test_the_paper_program_on_a_smaller_budget(tmp_path: Path) -> None:
    text = NEMOTRON.read_text("utf-8")
    old, new = lowered(tmp_path, text), lowered(tmp_path, text.replace("<= 51.5B", "<= 49B"))
    found = compare(old, new)
    assert told(found) == {
        f"~ search {name}": ["~ require: params <= 51.5B -> params <= 49B"]
        for name in ("nemotron51b", "maxparams")
    }
    assert found.waiting == ("pairs",)
    assert as_text(found).startswith(
        "~ search nemotron51b\n    ~ require: params <= 51.5B -> params <= 49B\n"
        "~ search maxparams\n    ~ as nemotron51b\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "layers[3].attention is noop",
        "layers[3].ffn is not noop",
        "layers[1].attention is gqa",
        "layers[1].attention is noop or (layers[2].ffn is noop and layers[3].ffn is noop)",
        "layers[1].attention is noop implies layers[0].attention is not noop",
        "(layers[1].attention is noop or layers[2].attention is noop) implies layers[0].ffn is not noop",
        "not (layers[1].attention is noop and layers[2].attention is noop)",
        "1 <= runs(l is noop for l in layers[1..]) < 3",
        "longest(attention is not noop) == 2",
        "distinct(ffn.width) <= 2",
        "layers[1] same as layers[2]",
        "params <= 1M",
        "chat.memory <= 3GiB",
        "chat.latency <= 1.5x",
        "2 * kl - params / 1M >= 1",
        "count(attention is gqa) <= 2",
        "count(layers[0, 2].attention is noop) >= 1",
        "sum(l.ffn.width * l.attention.kv_heads for l in layers[1..2]) <= 9",
    ],
)
def test_a_requirement_is_told_as_it_is_written(tmp_path: Path, text: str) -> None:
    """Statements about layers can be written again; amounts are told in the units that were meant."""
    program = lowered(tmp_path, f"{TINY}search s of w {{\n  minimize kl\n  require {text}\n}}\n")
    [found] = program.searches["s"].requirements
    assert requirement_text(found) == text
