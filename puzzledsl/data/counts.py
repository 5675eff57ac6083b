"""Budget of a BLD in token blocks, counts of tokenised text, and proportional mixing of texts.

Block i of a mixture comes from the part that is furthest behind its share of i + 1 blocks (Tijdeman's chairman assignment, 1980),
so that every prefix of the blocks has the proportions, too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from puzzledsl.base.files import SEAL_BYTES
from puzzledsl.base.frozen import Record
from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import Bld
from puzzledsl.ir.tables import BldJob, TextCounts
from puzzledsl.plan.flop import held_out_blocks


def parts_of(data: nodes.Data) -> list[tuple[nodes.Data, int]]:
    """Return the texts of a mix with their weights; for another declaration, itself with weight 1."""
    if not isinstance(data.source, nodes.MixData):
        return [(data, 1)]
    parts = data.source.parts
    return [(nodes.Data(name=p.name, source=p.source, where=data.where), p.weight) for p in parts]


def turns(weights: Sequence[int], count: int) -> list[int]:
    """Return the part that each of `count` blocks comes from. After n blocks, every part has had its share of n to within one."""
    total = sum(weights)
    owed = [0] * len(weights)
    found = []
    for _ in range(count):
        owed = [behind + weight for behind, weight in zip(owed, weights, strict=True)]
        part = max(range(len(owed)), key=lambda i: (owed[i], -i))
        owed[part] -= total
        found.append(part)
    return found


def most_blocks(weights: Sequence[int], available: Sequence[int], limit: int) -> int:
    """Return the number of blocks, at most `limit`, that can be drawn from parts that have `available` blocks each."""
    left = list(available)
    for number, part in enumerate(turns(weights, limit)):
        if not left[part]:
            return number
        left[part] -= 1
    return limit


def counts_of(path: Path) -> TextCounts | None:
    """Return the counts behind a stream's tokens in its file; None for a file that has none or cannot be read."""
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        assert isinstance(tokens, np.memmap)
        end = tokens.offset + tokens.nbytes
        with path.open("rb") as file:
            file.seek(end)
            found = file.read()[:-SEAL_BYTES]
        return TextCounts.from_json(found) if found else None
    except (OSError, ValueError):
        return None


def counts_in(tokens: Path, data: Mapping[str, nodes.Data]) -> dict[str, tuple[TextCounts, ...]]:
    """Return each declaration's counts that the folder `tokens` has, the newest of each source; without any, it is left out."""
    found: dict[str, TextCounts] = {}
    for path in sorted(tokens.glob("*.npy"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        if counts := counts_of(path):
            found[counts.source] = counts
    result = {}
    for name, declared in data.items():
        parts = [(part.name, found.get(part.source.model_dump_json())) for part, _ in parts_of(declared)]
        known = tuple(c.model_copy(update={"name": part}) for part, c in parts if c is not None)
        if known:
            result[name] = known
    return result


def in_words(counts: TextCounts) -> str:
    """Return the counts as one line: ``data `d`: 1,204 documents, 1,203,331 tokens; 31 exact duplicates dropped``."""
    kept = f"{counts.documents:,} documents, {counts.tokens:,} tokens"
    if counts.learned_tokens != counts.tokens:
        kept += f" ({counts.learned_tokens:,} of them answers)"
    cut = []
    if counts.duplicates:
        cut.append(f"{counts.duplicates:,} exact duplicates {'dropped' if counts.copies_dropped else 'kept'}")
    if counts.unanswered:
        cut.append(f"{counts.unanswered:,} conversations without an answer left out")
    if counts.other_part:
        cut.append(f"{counts.other_part:,} documents are in other parts")
    if counts.stopped:
        behind = f", {counts.cut_tokens:,} tokens of the last document cut" if counts.cut_tokens else ""
        cut.append(f"`take` ends it{behind}")
    return f"data `{counts.name}`: " + "; ".join([kept, *cut])


class Budget(Record):
    """Numbers of blocks of `context` tokens. `batch` blocks make one training step."""

    context: int
    batch: int
    seed: int
    calibration: int
    training: int
    held_out: int

    @classmethod
    def of(cls, source: Bld | BldJob) -> Self:
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
        """Number of blocks in all: for calibration, for training and held out."""
        return self.calibration + self.training + self.held_out

    @property
    def steps(self) -> int:
        """Number of training steps of each job."""
        return self.training // self.batch
