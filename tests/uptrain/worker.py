"""One process of a sharded run over a prepared case: `torchrun -m tests.uptrain.worker BASE`.

Trains `BASE/whole` at a stretch, then `BASE/resumed` with a stop in between; rank 0 leaves what it saw in BASE/seen.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from puzzledsl.ir.nodes import Program
from puzzledsl.uptrain import run, train
from puzzledsl.uptrain.ranks import leave, local, ranks_of
from tests.uptrain.cases import Interrupted, Recorder

STOP = 7


class Spy(train.Trainer):
    """Remembers itself."""

    last: Spy

    def run(self):
        Spy.last = self
        return super().run()


def held() -> dict[str, list[int]]:
    """Numbers that this process keeps of each model, and numbers of the whole."""
    models = {"parent": Spy.last.teacher.model, "child": Spy.last.child}
    return {
        name: [sum(local(w).numel() for w in model.parameters()), sum(w.numel() for w in model.parameters())]
        for name, model in models.items()
    }


def main(base: Path) -> None:
    torch.set_num_threads(1)
    run.Trainer = Spy
    program = Program.from_json((base / "program.json").read_text())
    ranks = ranks_of()

    def train_to(out: str, progress: Recorder) -> None:
        directories = (
            base / "parent",
            base / "models" / "best",
            base / out,
            base,
            base / "work",
            base / "tokens",
        )
        run.run_uptrain(run.UptrainInputs(program, "final", *directories, progress, ranks))

    whole, resumed = Recorder(), Recorder()
    train_to("whole", whole)
    shares = held()
    train.CHECKPOINT_S, train.CHECKPOINT_SHARE = 0.0, 1e9  # after every step
    try:
        train_to("resumed", Recorder(limit=STOP))
    except Interrupted:
        train.CHECKPOINT_SHARE = 1e-9  # never again
        train_to("resumed", resumed)
    if ranks.leads:
        seen = {"whole": whole.events, "resumed": resumed.events, "held": shares}
        (base / "seen.json").write_text(json.dumps(seen))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
