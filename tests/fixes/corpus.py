"""Programs with one mistake each: mutations of the examples, of the tests' programs and of generated ones, by seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.checker.programs import ROOT, TINY
from tests.fuzz.inputs import SEARCH
from tests.generated import program
from tests.generated.mistakes import mistake

GENERATED = 24
"""Generated programs among those that are mutated."""


@dataclass(frozen=True)
class Broken:
    """A program with a mistake, and the one without. `path` is where it stands."""

    path: Path
    right: str
    text: str
    kind: str

    @property
    def has_two_readings(self) -> bool:
        """True where the right program cannot be told from the text.

        The mutation wrote something near another program (`memroy` for `throughput`, `//` for `because`, `=` for `<=`, which
        is `==`, another number in another unit: `0.3` for `75%`, which is `30%`), or the end of a line is lost with words in it:
        after `for i in 0..28` nobody knows of `step 2`.
        """
        near = self.kind.startswith(("unknown attribute", "wrong operator", "impossible number"))
        near |= ("//" in self.text) != ("//" in self.right)
        return near or (self.kind.startswith("cut line") and re.search(r"\w", self._lost()) is not None)

    def _lost(self) -> str:
        """Return the text that a cut took away."""
        pairs = enumerate(zip(self.text, self.right, strict=False))
        start = next((at for at, (one, other) in pairs if one != other), len(self.text))
        return self.right[start : start + len(self.right) - len(self.text)]

    def __str__(self) -> str:
        return f"{self.path.name}, {self.kind}"


@cache
def _sound(folder: Path) -> tuple[tuple[Path, str], ...]:
    examples = [path for path in sorted((ROOT / "examples").rglob("*.pzl")) if "parent" not in path.parts]
    written = {"tiny": TINY + SEARCH.split("\nbld")[0].replace("search s", "\nsearch s")}
    written |= {f"generated{i}": program(random.Random(i)) for i in range(GENERATED)}
    for name, text in written.items():
        (folder / f"{name}.pzl").write_text(text, "utf-8")
    own = [(folder / f"{name}.pzl", text) for name, text in written.items()]
    return (*((path, path.read_text("utf-8")) for path in examples), *own)


def broken_programs(seed: int, count: int, folder: Path) -> Iterator[Broken]:
    """Yield `count` programs with a mistake. Files that do not exist are written to `folder`."""
    chance = random.Random(seed)
    sound = _sound(folder)
    made = 0
    while made < count:
        path, text = chance.choice(sound)
        found = mistake(text, chance)
        if found is None:
            continue
        lines = text.split("\n")
        lines[found.line - 1] = found.text
        made += 1
        yield Broken(path, text, "\n".join(lines), f"{found.kind} in line {found.line}: {found.text.strip()}")
