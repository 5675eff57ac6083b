"""Every fix of a mistake, applied or spelled out, adds no error, parses and changes nothing that a correct line means."""

import random
from pathlib import Path

import pytest

from puzzledsl.checker.check import check
from puzzledsl.cli.checking import FixRun
from tests.fixes.corpus import Broken, broken_programs
from tests.fixes.laws import Tally, hold
from tests.fixes.listed import programs
from tests.generated.mistakes import mistake


@pytest.mark.parametrize(
    "count", [40, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_fixes_of_some_mistakes(tmp_path: Path, count: int) -> None:
    found = Tally()
    for broken in broken_programs(int(count > 40), count, tmp_path):
        found.add(hold(broken))
    assert found.problems == []
    assert found.refused > 0.45 * count and found.fixes > 0.15 * count and found.repaired > 0.075 * count


TEXTS = """\
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = parent | noop, ffn = parent | noop }
data notes = text("notes/*.txt", take: 10M, duplicates: drop)
data talks = jsonl("talks.jsonl", messages: turns, loss: answers, part: 0%..95%)
data dump = parquet("dump.parquet", column: body)
data hub = hf("owner/name", split: train, subset: en, take: 1M)
data mixed = mix(notes: 40%, talks: 30%, dump: 30%)
data halves = mix(mixed: 1, hub: 1)
bld pieces of w { tokens = 1M, data = halves }
"""


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_fixes_of_mistakes_in_texts(tmp_path: Path, count: int) -> None:
    """Mutations of sources, shares and what is read of them."""
    found, chance, lines = Tally(), random.Random(5), TEXTS.split("\n")
    path = tmp_path / "texts.pzl"
    path.write_text(TEXTS)
    while found.programs < count:
        made = mistake(TEXTS, chance)
        if made is None or not lines[made.line - 1].startswith("data"):
            continue
        text = "\n".join([*lines[: made.line - 1], made.text, *lines[made.line :]])
        found.add(hold(Broken(path, TEXTS, text, f"{made.kind}: {made.text}")))
    assert found.problems == []
    assert found.refused > 0.7 * count and found.fixes > 0.2 * count


@pytest.mark.parametrize(
    ("kind", "text", "meant"), programs(), ids=lambda text: (text or "")[:40].split("\n")[0]
)
def test_a_listed_mistake_is_one_error_and_its_fix_is_right(
    kind: str, text: str, meant: str | None, tmp_path: Path
) -> None:
    program = tmp_path / "program.pzl"
    program.write_text(text)
    found = check(program)
    assert [d.severity for d in found.diagnostics].count("error") == 1, found.diagnostics
    assert found.diagnostics[0].help, "a help shows at least the form that is expected"
    assert hold(Broken(program, meant or text, text, kind)).problems == []
    fix_run = FixRun(program, {})
    fix_run.run()
    fix_run.write()
    assert program.read_text() == (text if meant is None else meant)
