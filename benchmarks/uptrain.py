"""The chunked loss of uptraining beside the plain one: memory it takes beyond its inputs, time, gradients.

Plain: logits of parent and child for all positions, then KL and its gradient by autograd. Each is run in a process of its
own for the memory (the highest resident size, less that before), then both in turns in one process for the time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from puzzledsl.plan.memory.tiles import CPU
from puzzledsl.uptrain.loss import logit_loss

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def inputs(positions: int, hidden: int, vocab: int) -> Inputs:
    """Child states and embedding (wanting gradients), the parent's, next tokens; seeded."""
    dice = torch.Generator().manual_seed(0)
    child_NH = torch.randn(positions, hidden, generator=dice)
    child_VH = torch.randn(vocab, hidden, generator=dice) * hidden**-0.5
    parent_NH = child_NH + 0.3 * torch.randn(positions, hidden, generator=dice)
    labels_N = torch.randint(vocab, (positions,), generator=dice)
    return (
        child_NH.requires_grad_(),
        child_VH.clone().requires_grad_(),
        parent_NH.detach(),
        child_VH,
        labels_N,
    )


def plain(
    child_NH: Tensor, child_VH: Tensor, parent_NH: Tensor, parent_VH: Tensor, labels_N: Tensor
) -> float:
    """All logits at once."""
    log_q_NV = F.log_softmax(child_NH @ child_VH.T, dim=-1)
    with torch.no_grad():
        log_p_NV = F.log_softmax(parent_NH @ parent_VH.T, dim=-1)
    loss = F.kl_div(log_q_NV, log_p_NV, log_target=True, reduction="batchmean")
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def chunked(
    child_NH: Tensor, child_VH: Tensor, parent_NH: Tensor, parent_VH: Tensor, labels_N: Tensor
) -> float:
    """As uptraining does it."""
    loss = logit_loss(child_NH, child_VH, parent_NH, parent_VH, labels_N, kld=1.0, lm=0.0).total
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


WAYS: dict[str, Callable[..., float]] = {"plain": plain, "chunked": chunked}


def peak_kib() -> int:
    """The highest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def print_extra(way: str, sizes: list[int]) -> None:
    """MiB that one way takes beyond its inputs and their gradients, in this process."""
    WAYS[way](*inputs(8, 8, 8))  # load what is loaded once
    ready = inputs(*sizes)
    for tensor in ready[:2]:
        tensor.grad = torch.ones_like(tensor)
    before = peak_kib()
    WAYS[way](*ready)
    print((peak_kib() - before) / 1024)


def extra_mib(way: str, sizes: list[int]) -> float:
    """The same, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.uptrain", "--measure", way, *map(str, sizes)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def cpu_seconds(sizes: list[int], rounds: int) -> dict[str, list[float]]:
    """CPU time of each way, taken in turns; the first round is not counted."""
    ready = inputs(*sizes)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(rounds + 1):
        for way, loss in WAYS.items():
            began = time.process_time()
            loss(*ready)
            if turn:
                found[way].append(time.process_time() - began)
    return found


def difference(sizes: list[int]) -> float:
    """Largest difference of a gradient, as a share of the largest gradient."""
    grads = []
    for loss in WAYS.values():
        ready = inputs(*sizes)
        loss(*ready)
        grads.append([tensor.grad for tensor in ready[:2]])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*grads, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--measure", nargs=4, metavar=("WAY", "POSITIONS", "HIDDEN", "VOCAB"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if options.measure:
        return print_extra(options.measure[0], [int(size) for size in options.measure[1:]])
    sizes = [options.positions, options.hidden, options.vocab]
    print(
        f"{options.positions} positions, vocabulary {options.vocab}, hidden size {options.hidden}, chunks of {CPU.loss_positions}"
    )
    extra = {way: extra_mib(way, sizes) for way in WAYS}
    seconds = cpu_seconds(sizes, options.rounds)
    best = {way: min(found) for way, found in seconds.items()}
    middle = statistics.median(c / p for p, c in zip(seconds["plain"], seconds["chunked"], strict=True))
    ratio = extra["chunked"] / extra["plain"]
    print(f"extra memory  plain {extra['plain']:.0f} MiB, chunked {extra['chunked']:.0f} MiB: {ratio:.3f}x")
    print(
        f"CPU time      plain {best['plain']:.2f} s, chunked {best['chunked']:.2f} s: {middle:.3f}x (median of pairs)"
    )
    print(f"gradients     differ by at most {difference(sizes):.1e} of the largest")
    return None


if __name__ == "__main__":
    main()
