"""One process of a sharded run of a larger model, whose memory is measured: `torchrun -m tests.uptrain.memory_worker BASE`.

RssAnon, sampled, at its peak in each phase, beyond what the process had before it opened a model. BASE/memory-RANK.json.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from puzzledsl.ir.nodes import Program
from puzzledsl.uptrain import run, train
from puzzledsl.uptrain.ranks import leave, ranks_of
from tests.uptrain.cases import Recorder


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("no RssAnon: not Linux")


class Peak:
    """The largest anonymous memory of this process since `reset`."""

    def __init__(self) -> None:
        self.bytes, self.done = 0, False
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self.done:
            self.bytes = max(self.bytes, anonymous_bytes())
            time.sleep(0.001)

    @contextmanager
    def phase(self, name: str, found: dict[str, int], base: int) -> Iterator[None]:
        self.bytes = anonymous_bytes()
        yield
        self.bytes = max(self.bytes, anonymous_bytes())
        found[name] = self.bytes - base


def main(base: Path) -> None:
    torch.set_num_threads(1)
    ranks, found, peak = ranks_of(), {}, Peak()
    program = Program.from_json((base / "program.json").read_text())
    real_models, real_step, real_write, real_read = (
        run.models,
        train.Trainer.step,
        run.write_child,
        run.read_along,
    )
    before: list[int] = []

    def opening(*args, **kwargs):
        gc.collect()
        before.append(anonymous_bytes())
        with peak.phase("open", found, before[0]):
            opened = real_models(*args, **kwargs)
        found["opened"] = anonymous_bytes() - before[0]
        return opened

    def stepping(self, step):
        with peak.phase(f"step {step}", found, before[0]):
            return real_step(self, step)

    def exporting(real):
        def export(*args):
            gc.collect()
            found["trained"] = anonymous_bytes() - before[0]
            with peak.phase("export", found, before[0]):
                return real(*args)

        return export

    run.models, train.Trainer.step = opening, stepping
    run.write_child, run.read_along = exporting(real_write), exporting(real_read)
    folders = base / "parent", base / "models" / "best", base / "out", base, base / "work", base / "tokens"
    run.run_uptrain(run.UptrainInputs(program, "final", *folders, Recorder(), ranks))
    (base / f"memory-{ranks.rank}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
