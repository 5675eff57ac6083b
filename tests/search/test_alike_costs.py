"""Programs whose layers cost the same and have scores of their own, as bits do: the answer is that of all counts, proven."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import accumulate, product
from pathlib import Path

import pytest

import puzzledsl as pzl
from puzzledsl.ir.tables import EndsAssignment
from tests.cases import more

LAYERS = 30
TEXT = f"""\
parent p = shape(family: llama, layers: {LAYERS}, hidden: 576, heads: 9, kv_heads: 3, head_dim: 64,
  intermediate: 1536, vocab: 49152, tied: true)
hardware h {{ memory = 8GiB, bandwidth = 10GB/s, overhead = 5us, peak {{ bf16 = 1TFLOP/s }} }}
scenario chat on h = batch(1, 64 -> 128)
space w of p {{ attention = parent(dtype: full | q4_0), ffn = parent(dtype: full | q4_0) | noop
  head = parent(dtype: full | q4_0) }}
score kl of w = table("kl.csv")
search s of w {{ maximize chat.throughput, require kl <= 0.1, solver = cpsat(time: 10s) }}
"""
HEAD = Fraction("0.0833413738612")


@pytest.mark.parametrize("seed", [0, *more(1)])
def test_the_fastest_child_within_a_loss_is_that_of_all_counts(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    def drawn(least: float, most: float) -> list[Fraction]:
        return [Fraction(round(dice.uniform(least, most), 12)) for _ in range(LAYERS)]

    attention, ffn = drawn(0.0001, 0.001), [*zip(drawn(0.0012, 0.0024), drawn(0.15, 0.8), strict=True)]
    rows = ["layer,attention,ffn,head,kl", f",,,parent@q4_0,{float(HEAD)!r}"]
    for layer, (of_attention, (of_ffn, of_noop)) in enumerate(zip(attention, ffn, strict=True)):
        rows.append(f"{layer},parent@q4_0,,,{float(of_attention)!r}")
        rows += [f"{layer},,parent@q4_0,,{float(of_ffn)!r}", f"{layer},,noop,,{float(of_noop)!r}"]
    (tmp_path / "kl.csv").write_text("\n".join(rows), "utf-8")
    (tmp_path / "program.pzl").write_text(TEXT, "utf-8")
    made = pzl.load(tmp_path / "program.pzl")

    answer = made.solve("s")
    assert answer.status == "optimal"
    found = made.metrics("s", (*answer.layers, answer.ends))
    assert found.feasible
    assert float(found.metrics["chat.latency"]) == pytest.approx(_least(made, attention, ffn), rel=1e-9)


def _least(made: pzl.Program, attention: list[Fraction], ffn: list[tuple[Fraction, Fraction]]) -> float:
    """Return the least latency within the loss: latencies add up, and layers are alike."""
    own = [("parent", "parent")] * LAYERS

    def latency(first: tuple[str, str], head: str = "parent") -> float:
        child = (first, *own[1:], EndsAssignment(embedding="parent", head=head))
        return float(made.metrics("s", child).metrics["chat.latency"])

    whole = latency(("parent", "parent"))
    saved = [
        whole - latency(c) for c in (("parent@q4_0", "parent"), ("parent", "parent@q4_0"), ("parent", "noop"))
    ]
    of_head = whole - latency(("parent", "parent"), "parent@q4_0")
    narrow = [Fraction(0), *accumulate(sorted(attention))]
    losses = {(0, 0): Fraction(0)}
    for of_bits, of_noop in ffn:
        grown: dict[tuple[int, int], Fraction] = {}
        for (bits, noops), loss in losses.items():
            for key, added in (
                ((bits, noops), Fraction(0)), ((bits + 1, noops), of_bits), ((bits, noops + 1), of_noop)
            ):  # fmt: skip
                if loss + added <= Fraction("0.1") and loss + added < grown.get(key, Fraction(1)):
                    grown[key] = loss + added
        losses = grown
    return min(
        whole - count * saved[0] - bits * saved[1] - noops * saved[2] - head * of_head
        for ((bits, noops), loss), head, count in product(losses.items(), (0, 1), range(LAYERS + 1))
        if loss + head * HEAD + narrow[count] <= Fraction("0.1")
    )
