"""Speed of a BLD step, all pieces of a layer on one forward pass of the parent's: `python -m benchmarks.stage1`.

The parent is a random Llama of 8 layers; each has eight pieces that start as in the paper and are all trained. Counted is the
arithmetic that must be done: the parent's layer once, each piece forward, and backward without the gradient of its input;
attention's products as they are usually counted, for all positions (PaLM, appendix B), and beside it for the half that a query
sees. The limit is what this process multiplies in float32, the best of three shapes. It is measured before and after every
step, and the share is the median of those of single steps, so that other load strikes both.

Shapes: H hidden, D head_dim, N query heads, K key/value heads, F intermediate width, S context.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from benchmarks.matmul import cpu_s, matmul_flop_per_s
from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import faster_in_bfloat16
from puzzledsl.pieces.train import piece_state
from puzzledsl.pieces.train.layer_trainer import walk_layers
from puzzledsl.pieces.train.piece_state import PieceState
from puzzledsl.pieces.train.student import Student

LAYERS, H, N, K, D, F = 8, 512, 8, 4, 64, 1536
CONTEXT = 256
REPETITIONS = 7
ATTENTION = (GqaAttention(kv_heads=2), GqaAttention(kv_heads=1), LinearAttention())
FFN = (*(MlpFfn(width=width) for width in (1152, 768, 384, 152)), LinearFfn())
PAPER = nodes.Initialisers.model_validate({"gqa": "mean_pool", "mlp": "channel_contribution"})


def parent() -> PreTrainedModel:
    """A random Llama, float32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=H,
        num_attention_heads=N,
        num_key_value_heads=K,
        head_dim=D,
        intermediate_size=F,
        num_hidden_layers=LAYERS,
        vocab_size=512,
        max_position_embeddings=4096,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


def job(layer: int, alternative: Any) -> BldJob:
    """A piece to make."""
    attention = isinstance(alternative, GqaAttention | LinearAttention)
    return BldJob(
        id="piece",
        bld="pieces",
        layer=layer,
        sub_block="attention" if attention else "ffn",
        attention=alternative if attention else None,
        ffn=None if attention else alternative,
        shapes={},
        init="least_squares",
        loss="normalized_mse",
        tokens=10**9,
        context=CONTEXT,
        batch=1,
        calibration_tokens=CONTEXT,
        seed=0,
        lr=nodes.Schedule(peak=1e-3),
    )


def attention_flop(positions: float, training: bool) -> float:
    """Scores and values, a token; the way back is twice the way there."""
    return 4 * positions * N * D * (3 if training else 1)


def layer_flop(positions: float) -> float:
    """The parent's layer, a token."""
    return 2 * (H * (N + 2 * K) * D + N * D * H + 3 * H * F) + attention_flop(positions, training=False)


def piece_flop(alternative: Alternative, positions: float) -> float:
    """A piece forward and backward, a token: a weight costs 2 there and 2 back, and 2 more where its input wants a gradient."""
    match alternative:
        case GqaAttention(kv_heads=kv_heads):
            projections = 4 * H * (N + 2 * kv_heads) * D + 6 * N * D * H
            return projections + attention_flop(positions, training=True)
        case MlpFfn(width=width):
            return 4 * 2 * H * width + 6 * H * width
        case LinearAttention() | LinearFfn():
            return 4 * H * H
    raise ValueError(alternative)


@contextmanager
def in_bfloat16(wanted: bool) -> Iterator[None]:
    """Training's passes in bfloat16, or not, whatever this machine is good at."""
    names = vars(piece_state)
    before = names["faster_in_bfloat16"]
    names["faster_in_bfloat16"] = lambda device: wanted
    try:
        yield
    finally:
        names["faster_in_bfloat16"] = before


class Bench:
    """The parent, its pieces of every layer, and a batch of tokens."""

    def __init__(self, sequences: int, layers: int) -> None:
        self.model = parent()
        self.runner, shape = LayerRunner(self.model), shape_of(self.model.config)
        self.tokens = torch.randint(0, 512, (sequences, CONTEXT), generator=torch.Generator().manual_seed(0))
        calibration = dict(walk_layers(self.model, [self.tokens], layers=range(layers)))
        self.trainers = []
        for layer in range(layers):
            jobs = [job(layer, alternative) for alternative in (*ATTENTION, *FFN)]
            students = [Student.build(j, self.model, calibration[layer], PAPER, shape) for j in jobs]
            self.trainers.append([PieceState(student, steps=10**6) for student in students])

    def step(self) -> None:
        """One forward pass of the parent feeds every piece of every layer."""
        hidden = self.runner.embed(self.tokens)
        for layer, trainer in enumerate(self.trainers):
            with torch.no_grad():
                trace = self.runner.trace_layer(layer, hidden)
            for piece in trainer:
                piece.accumulate(hidden, trace)
                piece.update()
            hidden = trace.output

    def step_by_prefixes(self) -> None:
        """Each job for itself: the parent from the bottom to its layer, then its piece."""
        for layer, trainer in enumerate(self.trainers):
            for piece in trainer:
                with torch.no_grad():
                    hidden: Tensor = self.runner.embed(self.tokens)
                    for below in range(layer):
                        hidden = self.runner.run_layer(below, hidden)
                    trace = self.runner.trace_layer(layer, hidden)
                piece.accumulate(hidden, trace)
                piece.update()

    def flop(self, positions: float = CONTEXT) -> float:
        """FLOP of one step, with attention to so many positions."""
        pieces = sum(piece_flop(alternative, positions) for alternative in (*ATTENTION, *FFN))
        return self.tokens.numel() * len(self.trainers) * (layer_flop(positions) + pieces)


def main() -> None:
    """Print shares and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of the matrix multiplications (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"\n## BLD step: {LAYERS} layers, {len(ATTENTION) + len(FFN)} pieces a layer, {options.threads} thread(s)"
    )
    bench = Bench(sequences=8, layers=2)
    took: dict[bool, list[float]] = {False: [], True: []}
    limits, shares = [matmul_flop_per_s(H, F)], []
    for _ in range(REPETITIONS):
        for wanted, seconds in took.items():
            with in_bfloat16(wanted):
                seconds.append(cpu_s(bench.step))
            if not wanted:
                limits.append(matmul_flop_per_s(H, F))
                shares.append(bench.flop() / seconds[-1] / statistics.mean(limits[-2:]))
    share = statistics.median(shares[1:])  # the first step makes buffers
    half = share * bench.flop(CONTEXT / 2) / bench.flop()
    print(f"this process multiplies {statistics.median(limits) / 1e9:.1f} GFLOP/s in float32")
    print(f"a step of 2,048 tokens: {share:.3f} of that (>= 0.8; {half:.3f} with attention counted by half)")
    has = faster_in_bfloat16(torch.device("cpu"))
    told = ">= 1.3, this CPU has it" if has else "this CPU has no bfloat16, so it is not used"
    ratio = statistics.median(f / b for f, b in zip(took[False][1:], took[True][1:], strict=True))
    print(f"bfloat16 with float32 loss and weights: {ratio:.2f}x faster ({told})", flush=True)
    _against_prefixes(has)


def _against_prefixes(bfloat16: bool) -> None:
    bench = Bench(sequences=2, layers=LAYERS)
    for wanted in (False, True) if bfloat16 else (False,):
        with in_bfloat16(wanted):
            bench.step()  # makes buffers
            before = cpu_s(bench.step)
            theirs = cpu_s(bench.step_by_prefixes)
            ours = (before + cpu_s(bench.step)) / 2
        dtype = "bfloat16" if wanted else "float32"
        print(
            f"512 tokens through {LAYERS} layers, {dtype}: {ours:.2f} s; a parent prefix a job {theirs:.2f} s: "
            f"{theirs / ours:.1f}x (>= 6)",
            flush=True,
        )


if __name__ == "__main__":
    main()
