"""Programs with one mistake each: mutations of the examples, of the tests' programs and of generated ones, by seed."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.checker.programs import ROOT, TINY
from tests.fixes.listed import HEAD, ITEMS, STATEMENTS
from tests.fuzz.inputs import SEARCH
from tests.generated import program
from tests.generated.mistakes import mistake

GENERATED = 24
"""Generated programs among those that are mutated."""


NEWER = """\
use "std/hardware.pzl" (h100_sxm)
parent p = hf(
  "parent",
  shape: shape(family: llama, layers: 12, hidden: 64, heads: 8, kv_heads: 8, head_dim: 8, intermediate: 192, vocab: 256),
)
param rate: Rate = 2 req/s
param kept: Ratio = 95%
space w of p {
  attention = parent(dtype: full | q8_0) | gqa(kv_heads: 4 | 2, window: 1Ki) | noop
  ffn = parent | mlp(width: 75% | 50%) | noop
  head = parent(dtype: full | q4_0), embedding = parent(dtype: full | q8_0)
  layers[0, -1] = parent
}
hardware h = h100_sxm(gpus: 1, dtype: fp8, kv_cache: fp8)
hardware local = measured(engine: llama_cpp, dtype: q8_0, threads: 1)
scenario busy on h = traffic(rate, 256 -> 128, at_most: 64)
scenario chat on local = batch(1, 128 -> 64)
data corpus = text("c.txt", part: 0%..95%)
data stories = jsonl("o.jsonl", messages: turns, loss: answers)
data tasting = text("c.txt", part: 95%..100%)
data mixed = mix(corpus: 0.7, stories: 0.3)
bld pieces of w { tokens = 1M, heal = 4Ki, data = mixed }
score kl of pieces = replace_one(kl_divergence, samples: 512, data: mixed)
score near of pieces = replace_one(cosine, samples: 512, data: mixed)
judge taste of p = tasks("arc.jsonl") { data = tasting, tokens = 4Ki }
search best of w {
  maximize chat.throughput
  require taste.kl <= 0.05 and taste.kept >= kept
  require head is parent(dtype: q4_0) implies layers[1] same as layers[2]
  require count(l.ffn.width >= 96 for l in layers) >= 4 because "wide enough"
  require runs(attention is noop) <= 2 and longest(ffn is noop) <= 3
  for i in 1..8 where i mod 2 == 0 { require layers[i].ffn is not noop }
  refine = measured(2)
}
search fast of w {
  minimize kl
  require busy.p95_ttft <= 300ms and busy.max_rate >= 3 req/s
  prefer -busy.tpot
  realise = false
}
frontier curve of fast = sweep(busy.tpot, 1ms..20ms, points: 4)
space v of p { attention = parent | linear, ffn = parent | mlp(width: 96) | noop }
search less of v { maximize params, require params <= 90% * p.params }
uptrain final of less { tokens = 1M, data = stories, lr = cosine(1e-4, warmup: 5%) }
data held = text("held.txt")
eval quality of final = tasks("more.jsonl") { data = held, tokens = 4Ki, ladder = false, lm_eval = "arc_easy, piqa" }
export ship of best = gguf("child.gguf", lower: true)
"""
"""A program with what the examples lack: traffic, judged quality, types of head and embedding, written text."""


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


def idioms() -> str:
    """Return a program with the right form of every listed idiom of another tool."""
    names = (f"{word}{i}" for word in ("a", "c", "g", "v", "k") for i in range(99))
    items = [meant for meant in ITEMS.values() if meant is not None]
    fresh = [
        re.sub(r"^(let|scenario|hardware|space|score) \w+", lambda m: f"{m[1]} {next(names)}", item)
        for item in items
    ]
    wanted = "\n  ".join(meant for meant in STATEMENTS.values() if meant is not None)
    return "\n".join([HEAD, *fresh, f"search every of w {{\n  minimize kl\n  {wanted}\n}}\n"])


@cache
def _sound(folder: Path) -> tuple[tuple[Path, str], ...]:
    examples = [path for path in sorted((ROOT / "examples").rglob("*.pzl")) if "parent" not in path.parts]
    written = {"tiny": TINY + SEARCH.split("\nbld")[0].replace("search s", "\nsearch s")}
    written |= {"newer": NEWER, "idioms": idioms()}
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
