"""Scores with and without healing of the layer behind, beside the loss that is left when the whole child is healed.

    python -m benchmarks.healed_scores --build examples/smollm2/build

Prints KL (nats) of SmolLM2 with no-ops, runs of dropped layers and, with a build directory, pieces of its library: as it is (the
paper's replace-1 score), after healing of the layer behind (`replace_one(…, healed: N)`), the same without the maps in front of a
gap and with the piece's own map, and after healing of every layer. Then rank correlations with the last, medians of the distance
from it, and CPU seconds.
Tokens to heal on come from the example's training text, scored ones from its calibration passages.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import process_time

import torch
from scipy.stats import spearmanr

from benchmarks.healing import CONTEXT, text
from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.child.assemble import Pieces
from puzzledsl.child.healing.chain import Link
from puzzledsl.child.healing.children import HealedChildren
from puzzledsl.child.healing.groups import HealingGroups
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.store.library import Library
from puzzledsl.scoring.measures import Divergence
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.sweep.healed import HealedReplacement
from puzzledsl.scoring.sweep.units import Scored

ROWS = ("as it is", "layer behind", "behind alone", "own map too", "all layers")
GROUPS = ("all", "no-ops", "runs", "pieces")


class Lab:
    """A parent, tokens to heal on and to score, and what they cost."""

    def __init__(self, example: Path, pieces: Pieces, tokens: int, samples: int) -> None:
        self.model = load_parent(example / "parent")
        self.runner = LayerRunner(self.model)
        calibration = text(example, "train.txt", tokens // CONTEXT)
        measure = Divergence(self.runner, text(example, "calibration.txt", samples // CONTEXT), samples)
        self.measure = measure
        self.children = HealedChildren(self.model, pieces, calibration, measure, kept_bytes=1)
        self.healing = HealingGroups(self.model, pieces, calibration, measure.groups, example)
        self.plain = HealingGroups(self.model, pieces, calibration[:2], measure.groups, example)
        for groups in (self.healing, self.plain):
            groups.parent.at(2 * len(self.runner))

    def kls(self, scored: Scored) -> Iterator[tuple[float, float]]:
        """KL and CPU seconds of every row."""
        healed = HealedReplacement.of(scored, len(self.runner))

        def is_behind(link: Link) -> bool:
            return healed.is_fitted(link) and link.goal == link.point + 1

        yield self._timed(lambda: self._kl(self.plain, healed, lambda _: False))
        yield self._timed(lambda: self._kl(self.healing, healed, healed.is_fitted))
        yield self._timed(lambda: self._kl(self.healing, healed, is_behind))
        yield self._timed(lambda: self._kl(self.healing, healed, lambda _: True))
        yield self._timed(lambda: next(self.children.measured([healed.layers]))[1]["kl_divergence"])

    @torch.no_grad()
    def _kl(
        self, groups: HealingGroups, healed: HealedReplacement, is_fitted: Callable[[Link], bool]
    ) -> float:
        stream: Sequence[torch.Tensor] = list(groups.parent.at(healed.start))
        for link in healed.changed:
            stream = groups.past(link, stream, groups.points_of(link), fit=is_fitted(link))
        hidden = [self.runner.run_suffix(healed.behind + 1, group) for group in groups.measured(stream)]
        return self.measure.figures([self.runner.final_norm(group) for group in hidden])["kl_divergence"]

    @staticmethod
    def _timed(work: Callable[[], float]) -> tuple[float, float]:
        began = process_time()
        return work(), process_time() - began


def drawn(layers: int, library: Library | None, singles: int, runs: int, pieces: int) -> list[Scored]:
    """No-ops, runs of 2 to 8 layers and pieces, evenly spread over kinds."""
    chance = random.Random(0)
    found: list[Scored] = [
        Run(layer, 1) for layer in chance.sample(range(layers), singles - 2 * (singles // 3))
    ]
    for layer in chance.sample(range(layers), singles // 3):
        found.append(Replacement(layer, "attention", "noop", (("attention", NoOpAttention(), None),)))
    for layer in chance.sample(range(layers), singles // 3):
        found.append(Replacement(layer, "ffn", "noop", (("ffn", NoOpFfn(), None),)))
    for number in range(runs):
        length = 2 + number % 7
        found.append(Run(chance.randrange(layers - length + 1), length))
    if library is not None:
        jobs = sorted((piece.job for piece in library.pieces()), key=lambda job: job.id)
        for job in chance.sample([job for job in jobs if not (job.attention and job.ffn)], pieces):
            alternative = job.attention or job.ffn
            assert alternative is not None
            sub_block = "attention" if job.attention else "ffn"
            part = (sub_block, alternative, job.id)
            found.append(Replacement(job.layer, sub_block, alternative.name, (part,)))
    return found


def kind(scored: Scored) -> str:
    """One of GROUPS."""
    if isinstance(scored, Run):
        return "runs" if scored.length > 1 else "no-ops"
    return "no-ops" if scored.name == "noop" else "pieces"


def title(scored: Scored) -> str:
    """`layers 3-5 dropped`, `layer 7 attention linear`."""
    if isinstance(scored, Run):
        last = scored.end - 1
        return f"layer{'s' * (last > scored.layer)} {'-'.join(map(str, dict.fromkeys((scored.layer, last))))} dropped"
    return f"layer {scored.layer} {scored.table} {scored.name}"


def tell(
    title: str,
    kinds: Sequence[str],
    rows: Sequence[Sequence[float]],
    figure: Callable[[Sequence[float], Sequence[float]], str],
) -> None:
    """Print a figure of every column and the last, by kind."""
    print(f"\n| {title} | {' | '.join(ROWS[:-1])} |\n|{'---|' * len(ROWS)}")
    for group in GROUPS:
        chosen = [row for of, row in zip(kinds, rows, strict=True) if group in ("all", of)]
        if chosen:
            *columns, last = zip(*chosen, strict=True)
            print(f"| {group} ({len(chosen)}) | {' | '.join(figure(column, last) for column in columns)} |")


def _correlation(column: Sequence[float], last: Sequence[float]) -> str:
    return f"{spearmanr(column, last).statistic:.3f}"


def _distance(column: Sequence[float], last: Sequence[float]) -> str:
    return f"{median(abs(kl / healed - 1) for kl, healed in zip(column, last, strict=True)):.1%}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--example", type=Path, default=Path("examples/smollm2"))
    parser.add_argument("--build", type=Path, help="a build directory, for pieces")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--count", type=int, nargs=3, default=[9, 12, 9], help="no-ops, runs, pieces")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    library = None if arguments.build is None else Library(arguments.build / "library")
    lab = Lab(arguments.example, library.load if library else dict, arguments.tokens, arguments.samples)
    everything = drawn(len(lab.runner), library, *arguments.count)
    print(f"| replaced | {' | '.join(ROWS)} |\n|{'---|' * (len(ROWS) + 1)}")
    rows: list[list[tuple[float, float]]] = []
    for scored in everything:
        rows.append(list(lab.kls(scored)))
        print(f"| {title(scored)} | {' | '.join(f'{kl:.4f}' for kl, _ in rows[-1])} |", flush=True)
    kinds = [kind(scored) for scored in everything]
    kls = [[kl for kl, _ in row] for row in rows]
    tell("rank correlation with all layers", kinds, kls, _correlation)
    tell("median distance from all layers", kinds, kls, _distance)
    seconds = [sum(s for _, s in column) / len(rows) for column in zip(*rows, strict=True)]
    print(f"\nCPU seconds each: {', '.join(f'{n} {s:.1f}' for n, s in zip(ROWS, seconds, strict=True))}")


if __name__ == "__main__":
    main()
