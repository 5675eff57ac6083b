"""Replacements of a score: every alternative (or pair) of every layer with its pieces, dropped runs of layers, and the table.

Metrics of replacements are cached as checksummed JSON lines. So resumed runs and scores of other metrics measure nothing twice.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import Args, DiagnosticError, NoPieceForAlternative
from puzzledsl.base.files import sealed_line, unsealed_line, write_text
from puzzledsl.child.checkpoint.contents import Chosen, chosen_in
from puzzledsl.child.definition import layer_of_pieces, pieces_of
from puzzledsl.families.block_configs import Layer
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.facts import runs_to_drop
from puzzledsl.ir.tables import BldJob, LayerDefinition, RunScore, ScoreTable
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.build import with_modules
from puzzledsl.pieces.store.library import Library
from puzzledsl.scoring.measures import Figures

Name = tuple[int, str, str]
"""(layer, table, alternative or pair of alternatives)."""


@dataclass(frozen=True)
class Replacement:
    """One entry of the score table. `table`: "attention", "ffn" or "pairs"; in "pairs", names are such as `gqa1/linear`."""

    layer: int
    table: str
    name: str
    definition: LayerDefinition

    @property
    def entry(self) -> Name:
        """The name under which the metrics are cached."""
        return self.layer, self.table, self.name

    @property
    def parts(self) -> list[Chosen]:
        """The sub-blocks that are not the parent's."""
        return [part for part in chosen_in(self.layer, self.definition) if not part.alternative.is_parent]

    def layer_of(self, model: PreTrainedModel, library: Library) -> nn.Module:
        """Return a copy of the model's layer with this replacement; for forward passes without a KV cache."""
        layer = layers(model)[self.layer]
        modules = {each.sub_block: each.module(model, layer, library.load)[0] for each in self.parts}
        return with_modules(layer, modules)


@dataclass(frozen=True)
class Run:
    """A run of `length` consecutive layers, from `layer` on, that are dropped together."""

    layer: int
    length: int

    @property
    def entry(self) -> Name:
        """The name under which the metrics are cached."""
        return self.layer, "run", str(self.length)

    @property
    def end(self) -> int:
        """The layer after the last dropped one."""
        return self.layer + self.length


@dataclass(frozen=True)
class End:
    """The embedding or the head, rounded to a storage type."""

    site: EndName
    dtype: PrecisionName

    @property
    def entry(self) -> Name:
        """The name under which the metrics are cached."""
        return -2, self.site, f"parent@{self.dtype}"


HEALING = 4.0
"""Work of healing a layer, in forward passes for each token: the parent's, the child's, Gram matrices, and the fitted maps."""


@dataclass(frozen=True)
class ScoringWork:
    """Weights that a token is multiplied by, in each layer and in the head; `healed`: healing tokens for each scored token."""

    layers: tuple[int, ...]
    head: int
    healed: float

    def above(self, scored: Replacement | Run | End) -> float:
        """Return the work of measuring, in weights for each scored token: of layers that run, of healing, and of the head."""
        if isinstance(scored, End):
            return sum(self.layers) + self.head
        end = scored.end if isinstance(scored, Run) else scored.layer
        return sum(self.layers[end:]) + self.head + HEALING * self.healed * sum(self.layers[end : end + 2])


def ends_to_score(space: nodes.Space) -> list[End]:
    """Return each storage type that the embedding or the head may have in a space; embedding before head."""
    known = () if space.ends is None else space.ends
    return [End(end.sub_block, end.dtype) for _, ends in known for end in ends if end.dtype is not None]


def runs_to_score(score: nodes.Score, space: nodes.Space, shape: nodes.Shape) -> list[Run]:
    """Return every run of dropped layers that a score measures, by ascending first layer; none for a score from a table."""
    lengths = score.method.runs if isinstance(score.method, nodes.ReplaceOne) else None
    return [Run(first, length) for first, length in runs_to_drop(space.layers, shape, lengths)]


def replacements(
    score: nodes.Score, space: nodes.Space, unit: str, jobs: Sequence[BldJob]
) -> list[Replacement]:
    """Return all replacements by layer, or all pairs if `unit` is "block", without the parent's own. Raises DiagnosticError."""
    pieces, found = pieces_of(jobs), list[Replacement]()
    parent = ParentAttention(), ParentFfn()
    for layer, choice in enumerate(space.layers):
        attention, ffn = dict.fromkeys(choice.attention), dict.fromkeys(choice.ffn)
        chosen: list[tuple[str, str, Layer]] = [("attention", a.name, (a, parent[1])) for a in attention]
        chosen += [("ffn", f.name, (parent[0], f)) for f in ffn]
        if unit == "block":
            chosen = [("pairs", f"{a.name}/{f.name}", (a, f)) for a in attention for f in ffn]
        for table, name, pair in chosen:
            if not all(alternative.is_parent for alternative in pair):
                definition, lacking = layer_of_pieces(layer, *pair, pieces)
                if lacking:
                    said: Args = {"score": score.name, "bld": score.bld, "what": lacking[0], "layer": layer}
                    raise DiagnosticError(NoPieceForAlternative(span_of(score.where), **said))
                found.append(Replacement(layer, table, name, definition))
    return found


def score_table(
    score: str,
    metric: str,
    unit: Literal["subblock", "block"],
    samples: int,
    layers: int,
    figures: Mapping[Name, Figures],
    runs: Sequence[Run] = (),
) -> ScoreTable:
    """Build the table of one metric from cached `figures`; `layers`: their number. The parent's own score, 0, is left out."""
    names = ("attention", "ffn", "pairs")
    tables: dict[str, list[dict[str, float]]] = {table: [{} for _ in range(layers)] for table in names}
    for (layer, table, name), figure in figures.items():
        if layer >= 0 and table in tables:
            tables[table][layer][name] = figure[metric]
    return ScoreTable(
        score=score,
        metric=metric,
        samples=samples,
        unit=unit,
        attention=() if unit == "block" else tuple(tables["attention"]),
        ffn=() if unit == "block" else tuple(tables["ffn"]),
        pairs=tuple(tables["pairs"]) if unit == "block" else (),
        runs=tuple(
            RunScore(first=run.layer, length=run.length, value=figures[run.entry][metric]) for run in runs
        ),
    )


class FiguresCache:
    """Cache of metrics by name, in one file for each `key`, a string of everything that the metrics depend on."""

    def __init__(self, build: BuildDir, kind: str, key: str) -> None:
        """Read the file in a build directory and drop its damaged lines. Its name begins with `kind`."""
        self.figures: dict[Name, Figures] = {}
        path = build.figures(f"{kind}{hashlib.sha256(key.encode()).hexdigest()[:24]}")
        self._path, head = path, sealed_line(json.dumps({"key": key}))
        found = path.read_text("utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
        whole = (line for line in found[1:] if line.endswith("\n")) if found[:1] == [head] else ()
        entries = [text for text in map(unsealed_line, whole) if text is not None]
        written = head + "".join(map(sealed_line, entries))
        if written != "".join(found):  # what an interrupted run cut off, or damage changed, is measured again
            write_text(path, written)
        for layer, table, name, figures in map(json.loads, entries):
            self.figures[layer, table, name] = figures

    def add(self, name: Name, figures: Figures) -> None:
        """Append one entry; on return it is on the disk."""
        self.figures[name] = figures
        with self._path.open("a", encoding="utf-8") as file:
            file.write(sealed_line(json.dumps([*name, figures])))
            file.flush()
            os.fsync(file.fileno())
