"""Change of the stream in each of the parent's layers: the order in which `block_influence` and `angular_run` drop."""

from __future__ import annotations

from pydantic import model_validator

from puzzledsl.base.frozen import Frozen


class BlockInfluence(Frozen):
    """Means over `positions` tokens of `text` in the parent: what a score is measured on, and behind it.

    `layers[i]`: block influence of layer i, 1 - cosine(stream in, stream out) (Men et al., ShortGPT, arXiv 2403.03853).
    `runs[n - 1][i]`: angular distance arccos(cosine) / pi over the n layers from i on (Gromov et al., arXiv 2403.17887).
    """

    text: str
    positions: int
    layers: tuple[float, ...]
    runs: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _whole(self) -> BlockInfluence:
        count = len(self.layers)
        if [len(row) for row in self.runs] != list(range(count, 0, -1)):
            raise ValueError(f"`runs` has one row for each length up to {count}, the shortest first")
        return self
