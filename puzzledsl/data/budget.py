"""Division of a BLD declaration's text into calibration, training and held-out blocks; scoring takes the blocks after.

The parts are disjoint runs of blocks in one shuffled order (`token_blocks` with the same context and seed).
"""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.ir.nodes import Bld
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.flop import held_out_blocks


@dataclass(frozen=True, slots=True)
class Budget:
    """Numbers of blocks of `context` tokens. `batch` blocks make one training step."""

    context: int
    batch: int
    seed: int
    calibration: int
    training: int
    held_out: int

    @classmethod
    def of(cls, source: Bld | BldJob) -> Budget:
        """Return the budget of a declaration or of one of its jobs. Training fills whole steps; `tokens` 0 means none."""
        context, batch = source.context, source.batch
        steps = max(1, source.tokens // (context * batch)) if source.tokens else 0
        return cls(
            context=context,
            batch=batch,
            seed=source.seed,
            calibration=-(-source.calibration_tokens // context),
            training=steps * batch,
            held_out=held_out_blocks(source.tokens, context),
        )

    @property
    def blocks(self) -> int:
        """Number of blocks of all parts."""
        return self.calibration + self.training + self.held_out

    @property
    def steps(self) -> int:
        """Number of training steps of each job."""
        return self.training // self.batch
