"""Every fix of a mistake, applied or spelled out, adds no error, parses and changes nothing that a correct line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.checker.check import check
from puzzledsl.cli.apply_fixes import FixRun
from tests.fixes.corpus import Broken, broken_programs
from tests.fixes.laws import Tally, hold
from tests.fixes.listed import programs


def tally(seed: int, count: int, folder: Path) -> Tally:
    found = Tally()
    for broken in broken_programs(seed, count, folder):
        found.add(hold(broken))
    return found


def test_fixes_of_some_mistakes(tmp_path: Path) -> None:
    found = tally(0, 40, tmp_path)
    assert found.problems == []
    assert found.fixes > 10 and found.repaired > 0


@pytest.mark.parametrize(
    ("mistake", "text", "meant"), programs(), ids=lambda text: (text or "")[:40].split("\n")[0]
)
def test_a_listed_mistake_is_one_error_and_its_fix_is_right(
    mistake: str, text: str, meant: str | None, tmp_path: Path
) -> None:
    program = tmp_path / "program.pzl"
    program.write_text(text)
    found = check(program)
    assert [d.severity for d in found.diagnostics].count("error") == 1, found.diagnostics
    assert found.diagnostics[0].help, "a help shows at least the form that is expected"
    assert hold(Broken(program, meant or text, text, mistake)).problems == []
    fix_run = FixRun(program, {})
    fix_run.run()
    fix_run.write()
    assert program.read_text() == (text if meant is None else meant)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fixes_of_a_thousand_mistakes(tmp_path: Path) -> None:
    found = tally(1, 1000, tmp_path)
    print(
        f"{found.programs} programs, {found.refused} refused, {found.fixes} fixes, {found.repaired} repaired"
    )
    assert found.problems == []
    assert found.refused > 900
    assert found.fixes > 300 and found.repaired > 150
