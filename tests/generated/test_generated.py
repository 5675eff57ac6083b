"""Generated programs are valid, and the mistakes planted in them are found where they are, with hardly any others."""

import random
from pathlib import Path

from benchmarks.diagnostics import measure
from puzzledsl.checker.check import check
from tests.generated import program


def test_generated_programs_have_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "program.pzl"
    for seed in range(1000, 1040):
        path.write_text(program(random.Random(seed)), "utf-8")
        assert path.read_text("utf-8") == program(random.Random(seed)), "a seed gives one program"
        found = check(path, {})
        assert not [d for d in found.diagnostics if d.severity == "error"], (seed, found.diagnostics)
        assert found.program is not None


def test_planted_mistakes_are_found_where_they_are(tmp_path: Path) -> None:
    figures = measure(range(2000, 2025), tmp_path)
    assert figures.planted > 60
    assert figures.exceptions == 0
    assert figures.located_share >= 0.95, figures.missed
    assert figures.spurious_share < 0.2, figures.surplus
