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
from puzzledsl.uptrain.ranks import leave, ranks_of
from tests.uptrain.cases import Interrupted, Recorder

STOP = 7


def main(base: Path) -> None:
    torch.set_num_threads(1)
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
    train.CHECKPOINT_S, train.CHECKPOINT_SHARE = 0.0, 1e9  # after every step
    try:
        train_to("resumed", Recorder(limit=STOP))
    except Interrupted:
        train.CHECKPOINT_SHARE = 1e-9  # never again
        train_to("resumed", resumed)
    if ranks.leads:
        seen = {"whole": whole.events, "resumed": resumed.events}
        (base / "seen.json").write_text(json.dumps(seen))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
