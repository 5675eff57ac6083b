"""A Llama's whole pipeline on many GPUs, by arithmetic: `python -m benchmarks.scale`. The tables of docs/scale.md.

Runs nothing: the memory plan of `pzl run --dry-run --device … --gpus …` for a program of 1B tokens of BLD and of GKD. `--write`
puts the tables into docs/scale.md.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.checker.check import check, shipped_profiles
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.tasks import TASKS
from puzzledsl.plan.memory.stage_plan import Device, StagePlan, device_of, size_text

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
SOURCE = """\
use "std/parents.pzl" ({parent})
use "std/hardware.pzl" ({profile})
parent p = hf("parent", shape: {parent})
hardware h = {profile}(gpus: 1)
scenario chat on h = batch(16, 2Ki -> 512)
space wide of p {{
  attention = parent | gqa(kv_heads: 4 | 2) | linear | noop
  ffn = parent | mlp(width: 50% | 25% | 10%) | linear | noop
}}
data corpus = text("corpus.txt")
bld pieces of wide {{
  train = attention + ffn
  tokens = 1B, context = 8Ki, batch = 64, calibration = 32Ki, data = corpus
}}
score kl of pieces = replace_one(kl_divergence, samples: 64Ki)
search best of wide {{
  minimize kl
  require chat.throughput >= 2x
}}
uptrain child of best {{
  loss = kld + cosine, tokens = 1B, context = 4Ki, batch = 128, data = corpus
}}
eval quality of child {{ data = corpus, tokens = 64Ki }}
export served of child = hf("served")
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One parent on one cluster."""

    parent: str
    profile: str
    gpus: int

    @property
    def title(self) -> str:
        """`llama3_1_8b on 1 x h100_sxm`."""
        return f"{self.parent} on {self.gpus} x {self.profile}"


CASES = (
    Case("llama3_1_8b", "h100_sxm", 1),
    Case("llama3_1_8b", "h100_sxm", 8),
    Case("llama3_1_70b", "h100_sxm", 8),
    Case("llama3_1_405b", "h200", 64),
)


def plans(case: Case) -> tuple[Device, list[StagePlan]]:
    """Return the device and the memory plan of every stage, in order, without a disk for activations."""
    device = device_of(shipped_profiles()[case.profile], case.gpus, case.profile)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "scale.pzl"
        file.write_text(SOURCE.format(parent=case.parent, profile=case.profile))
        program = check(file).program
        assert program is not None
        ctx = Context(file, program, BuildDir(file.parent / "build"), "")
        tasks = [kind(ctx, name) for kind in TASKS.values() for name in kind.declared(program)]
        return device, [plan for task in tasks if task.exists() for plan in task.plans(device, 0)]


def table(case: Case) -> Iterator[str]:
    """Yield the lines of one case's table."""
    device, found = plans(case)
    yield f"### {case.title}"
    yield ""
    usable, memory, host = map(size_text, (device.usable_bytes, device.memory_bytes, device.host_bytes))
    yield f"The plan fills {usable} of a GPU's {memory}, and {host} of the host beside each."
    yield ""
    yield "| stage | a GPU | host | hours | chosen |"
    yield "|---|---|---|---|---|"
    for plan in found:
        chosen = "; ".join(f"{choice.what}: {choice.value}" for choice in plan.choices)
        host = size_text(plan.host_bytes) if plan.host_bytes else ""
        gpus = (
            f"{size_text(plan.peak_bytes)}{'' if plan.fits(device) else ' (too much)'}" if plan.parts else ""
        )
        yield f"| {plan.stage} | {gpus} | {host} | {plan.seconds / 3600:.2f} | {chosen} |"
    peak, hours = max(plan.peak_bytes for plan in found), sum(plan.seconds for plan in found) / 3600
    yield f"| all | {size_text(peak)} | | {hours:.1f} | |"
    yield ""


def tables() -> str:
    """Return the generated part of docs/scale.md."""
    return "\n".join(line for case in CASES for line in table(case))


MARKS = "<!-- tables: python -m benchmarks.scale --write -->", "<!-- end of tables -->"


def page_with(text: str, page: str) -> str:
    """Return a page with the text between its marks."""
    start, end = MARKS
    return re.sub(
        f"{re.escape(start)}.*{re.escape(end)}", lambda _: f"{start}\n{text}\n{end}", page, flags=re.DOTALL
    )


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", help="a shape of std/parents.pzl; default: those of docs/scale.md")
    parser.add_argument("--profile", default="h100_sxm", help="a card of std/hardware.pzl")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/scale.md")
    given = parser.parse_args()
    if given.parent:
        print("\n".join(table(Case(given.parent, given.profile, given.gpus))))
    elif given.write:
        PAGE.write_text(page_with(tables(), PAGE.read_text()))
    else:
        print(tables())


if __name__ == "__main__":
    main()
