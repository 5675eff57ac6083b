"""Score tables: how much worse the parent gets with one replacement, and with dropped runs of layers."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact


class RunScore(Frozen):
    """The score of dropping `length` consecutive layers, `first` and those after it, all at once: in place of their sum."""

    first: int = field(metadata={"ge": 0})
    length: int = field(metadata={"ge": 2})
    value: float


class ScoreFit(Frozen):
    """Fit of replace-1-block KLs to children that were measured whole (`replace_one(…, children: N)`).

    An entry is `scale` times the mean over positions of G log(1 + kl / G) with G `saturation_nats` (None: of kl itself).
    Errors are relative: of predictions of children that were left out of the fit.
    """

    children: int
    scale: float
    saturation_nats: float | None
    error_rms: float
    error_most: float


class BlockInfluence(Frozen):
    """Means over `positions` tokens of `text` in the parent: what a score is measured on, and behind it.

    `layers[i]`: block influence of layer i, 1 - cosine(stream in, stream out) (Men et al., ShortGPT, arXiv 2403.03853).
    `runs[n - 1][i]`: angular distance arccos(cosine) / pi over the n layers from i on (Gromov et al., arXiv 2403.17887).
    """

    text: str
    positions: int
    layers: tuple[float, ...]
    runs: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Refuse rows of other lengths."""
        count = len(self.layers)
        if [len(row) for row in self.runs] != list(range(count, 0, -1)):
            raise ValueError(f"`runs` has one row for each length up to {count}, the shortest first")


class ScoreTable(Artefact):
    """`build/scores/NAME.json`: how much worse the parent gets with one replacement. `parent` is 0 (or absent, meaning 0).

    `pairs[layer]["gqa1/linear"]`: attention/ffn measured together, where `unit` is "block"; then it is the whole score
    of that layer and the sub-block tables are empty. A child's score is `offset`, plus its layers' scores. Layers in a
    row with neither sub-block left have the score of their run in `runs`, where it is there. A table made inside an incumbent
    child (`around`) has an offset: its entries are what each choice adds to having the parent's there, and the sum is right for
    the incumbent.
    `influence` is the parent's, of tables that were measured.
    """

    score: str
    metric: str
    samples: int
    unit: Literal["subblock", "block"] = "subblock"
    attention: tuple[dict[str, float], ...] = ()
    ffn: tuple[dict[str, float], ...] = ()
    pairs: tuple[dict[str, float], ...] = ()
    offset: float = 0.0
    fit: ScoreFit | None = None
    influence: BlockInfluence | None = None
    runs: tuple[RunScore, ...] = ()
