"""Every fix of a mistake, applied or spelled out, adds no error, parses and changes nothing that a correct line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixes.corpus import broken_programs
from tests.fixes.laws import Tally, hold


def tally(seed: int, count: int, folder: Path) -> Tally:
    found = Tally()
    for broken in broken_programs(seed, count, folder):
        found += hold(broken)
    return found


def test_fixes_of_some_mistakes(tmp_path: Path) -> None:
    found = tally(0, 40, tmp_path)
    assert found.problems == []
    assert found.fixes > 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fixes_of_a_thousand_mistakes(tmp_path: Path) -> None:
    found = tally(1, 1000, tmp_path)
    print(f"{found.programs} programs, {found.refused} refused, {found.fixes} fixes, {found.quoted} quotes")
    assert found.problems == []
    assert found.refused > 700
    assert found.fixes > 300
