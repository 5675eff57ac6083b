"""Ablation of healing: SmolLM2 with layers dropped or sub-blocks scattered out, healed with one choice changed at a time.

    python -m benchmarks.healing --tokens 4096 8192

Prints held-out KL (nats) and CPU seconds of each variant. Tokens to fit and to judge steps come from the example's training text;
KL is measured on its calibration passages, which nothing here is fitted to.

Shapes: N blocks, S context, T tokens, B sequences, H hidden, P inputs of a last map, Q outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import torch
from torch import Tensor

from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.healing.chain import Link, chain, first_changed
from puzzledsl.child.healing.fit import RIDGE_TOKENS, FitBatch, choose_shares
from puzzledsl.child.healing.layer import ChildSubBlock
from puzzledsl.child.healing.parent import ParentStream
from puzzledsl.data.blocks import token_blocks
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, solve_ridge
from puzzledsl.scoring.measures import Divergence

CONTEXT, BLOCKS_A_GROUP, JUDGING_BLOCKS, SCORED_BLOCKS = 256, 2, 2, 8
WHERE = nodes.Where(file="healing.py", line=1, column=1, end_line=1, end_column=1)
CHILDREN = {
    "layers 12-17 dropped": ({*range(12, 18)}, {*range(12, 18)}),
    "5 attentions, 3 FFNs dropped": ({13, 15, 18, 20, 24}, {12, 14, 16}),
}
"""Layers without attention, layers without FFN."""


@dataclass(frozen=True)
class Variant:
    """One way to heal. `pull`: share of the drift that is made good; None: held-out tokens choose the shares of both steps."""

    name: str
    fitted: tuple[str, ...] = ("attention", "ffn")
    ahead: bool = True
    weighted: bool = True
    pull: float | None = None
    ridge: float = RIDGE_TOKENS
    sweeps: int = 1


BASE = Variant("healed")
WHOLE = replace(BASE, pull=1.0, ridge=TOWARDS_START)
VARIANTS = (
    Variant("assembled", fitted=()),
    BASE,
    replace(BASE, name="two sweeps", sweeps=2),
    *(replace(BASE, name=f"ridge {ridge:g}", ridge=ridge) for ridge in (0.8, 2.0, 5.0)),
    replace(BASE, name="attention's maps alone", fitted=("attention",)),
    replace(BASE, name="FFNs' maps alone", fitted=("ffn",)),
    *(replace(WHOLE, name=f"whole steps, ridge {ridge:g}", ridge=ridge) for ridge in (1.0, 5.0, 15.0)),
    replace(WHOLE, name="whole steps, each output at its own point", ahead=False),
    replace(WHOLE, name="whole steps, tokens not weighted", weighted=False),
    replace(WHOLE, name="whole steps, neither", ahead=False, weighted=False),
    replace(WHOLE, name="pull 0.5", pull=0.5),
    replace(WHOLE, name="pull 0", pull=0.0),
)


class Lab:
    """The parent's stream at every point, for tokens to fit, to judge steps and to score."""

    def __init__(self, example: Path, tokens: int, dtype: torch.dtype) -> None:
        self.model = load_parent(example / "parent", dtype=dtype)
        self.runner = LayerRunner(self.model)
        train = text(example, "train.txt", tokens // CONTEXT + JUDGING_BLOCKS)
        scored = text(example, "calibration.txt", SCORED_BLOCKS)
        self.measure = Divergence(self.runner, scored, scored.numel())
        groups = [
            *torch.split(train[JUDGING_BLOCKS:], BLOCKS_A_GROUP),
            train[:JUDGING_BLOCKS],
            *self.measure.groups,
        ]
        self.judging = -(-len(train[JUDGING_BLOCKS:]) // BLOCKS_A_GROUP)
        self.parent = ParentStream(self.runner, groups, example)
        self.measure.set_parent(self.normed(list(self.parent.at(2 * len(self.runner)))))

    def normed(self, stream: Sequence[Tensor]) -> list[Tensor]:
        """Final hidden states of the scored groups."""
        return [self.runner.final_norm(hidden) for hidden in stream[self.judging + 1 :]]

    @torch.no_grad()
    def kl(self, layers: Sequence[LayerDefinition], variant: Variant) -> float:
        """KL of a child of the parent's own sub-blocks, healed."""
        healed: dict[int, Tensor] = {}
        for _ in range(variant.sweeps):
            stream = self._sweep(chain(layers), variant, healed)
        return self.measure.figures(self.normed(stream))["kl_divergence"]

    def _sweep(self, links: Sequence[Link], variant: Variant, healed: dict[int, Tensor]) -> list[Tensor]:
        """Fit every link, front to back, from `healed` on: last maps by the point that a link reads."""
        stream = list(self.parent.at(first_changed(links)))
        for link in links[first_changed(links) :]:
            sub_block = ChildSubBlock(self.model, link, dict)
            if link.point in healed:
                sub_block.last.weight.copy_(healed[link.point])
            read = [sub_block.last_input(h, self.parent.attention_kwargs(link.layer_idx, h)) for h in stream]
            if link.sub_block in variant.fitted:
                self._fit(sub_block, link, read, stream, variant)
                healed[link.point] = sub_block.last.weight.clone()
            stream = [h + sub_block.added(r) for h, r in zip(stream, read, strict=True)]
        return stream

    def _fit(
        self, sub_block: ChildSubBlock, link: Link, read: list[Tensor], stream: list[Tensor], variant: Variant
    ) -> None:
        goal = self.parent.at(link.goal if variant.ahead else link.point + 1)
        parent = self.parent.at(link.point)
        seen = [FitBatch(*group) for group in zip(read, stream, parent, goal, strict=True)]
        steps = self._steps(sub_block, seen[: self.judging], variant)
        shares = (1.0, 1.0 if variant.pull is None else variant.pull)
        if variant.pull is None:
            effects = [lambda read, step=step: read.float() @ step for step in steps]
            shares = choose_shares(sub_block, effects, [seen[self.judging]])
        weight = sub_block.last.weight
        weight += (shares[0] * steps[0] + shares[1] * steps[1]).T.to(weight)

    def _steps(
        self, sub_block: ChildSubBlock, seen: Iterable[FitBatch], variant: Variant
    ) -> Sequence[Tensor]:
        last = sub_block.last
        gram = Gram.zeros(last.in_features, 2 * last.out_features)
        for group in seen:
            weight = group.weight() if variant.weighted else torch.ones(())
            missing = group.added() - sub_block.added(group.read).float()
            gram.add(group.read.float() * weight, torch.cat([missing, group.drift()], -1) * weight)
        step_PQ = solve_ridge(gram.xx, gram.xy, relative=gram.ridge(variant.ridge))
        return torch.split(step_PQ, last.out_features, dim=1)


def text(example: Path, name: str, blocks: int) -> Tensor:
    """Blocks [N, S] of one of the example's texts."""
    data = nodes.Data(name="text", source=nodes.TextData(paths=(f"data/{name}",)), where=WHERE)
    tokenizer = load_tokenizer(example / "parent")
    return token_blocks(data, example, tokenizer, context=CONTEXT, tokens=blocks * CONTEXT, seed=0)


def child(layers: int, without_attention: set[int], without_ffn: set[int]) -> list[LayerDefinition]:
    """The parent without some of its sub-blocks."""
    return [
        LayerDefinition(
            attention=NoOpAttention() if index in without_attention else ParentAttention(),
            ffn=NoOpFfn() if index in without_ffn else ParentFfn(),
        )
        for index in range(layers)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--example", type=Path, default=Path("examples/smollm2"))
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096])
    parser.add_argument("--variants", nargs="*", help="names, or their beginnings; all unless said")
    parser.add_argument("--children", type=int, nargs="*", default=list(range(len(CHILDREN))))
    parser.add_argument("--bf16", action="store_true", help="the parent in bfloat16")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [v for v in VARIANTS if not arguments.variants or v.name.startswith(tuple(arguments.variants))]
    print("| child | tokens | variant | KL | CPU s |\n|---|---|---|---|---|")
    for tokens in arguments.tokens:
        lab = Lab(arguments.example, tokens, torch.bfloat16 if arguments.bf16 else torch.float32)
        for number in arguments.children:
            name = list(CHILDREN)[number]
            layers = child(len(lab.runner), *CHILDREN[name])
            for variant in wanted:
                began = process_time()
                kl = lab.kl(layers, variant)
                row = (name, f"{tokens:,}", variant.name, f"{kl:.4f}", f"{process_time() - began:.1f}")
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
