"""Answers of a search: verified solutions with their proof, conflicts and relaxations, frontiers."""

from __future__ import annotations

from typing import Literal

from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact


class LayerAssignment(Frozen):
    """Canonical names of one layer's choice."""

    attention: str
    ffn: str


class Solution(Frozen):
    """One verified answer. `objective` is exact in the units of the tables; `metrics` in base units, with the parent's beside."""

    objective: float
    layers: tuple[LayerAssignment, ...]
    batches: dict[str, int] = {}
    metrics: dict[str, float] = {}  # "chat.memory" -> bytes, "params" -> count, "kl" -> score …

    @property
    def figures(self) -> dict[str, float]:
        """Metrics in base units, and the batch of every scenario as `chat.batch`."""
        return {**self.metrics, **{f"{name}.batch": float(batch) for name, batch in self.batches.items()}}


class ConflictItem(Frozen):
    """Requirement in a minimal conflict.

    `reachable`: its best value with the others of the set kept, which some model reaches; empty for a statement about layers.
    """

    line: int
    text: str
    because: str = ""
    reachable: str
    proven: bool = True  # that no more is reachable, to the last digit shown
    frees: bool | None = (
        None  # dropping this one alone makes the whole search satisfiable (None: not decided)
    )


class Change(Frozen):
    """A requirement with another bound, as the user would write it. `bound` None: the requirement is dropped."""

    line: int
    text: str
    bound: str | None


class Relaxation(Frozen):
    """The least that must change so that an infeasible search has a solution, and the verified solution that shows it."""

    changes: tuple[Change, ...]
    objective: float
    layers: tuple[LayerAssignment, ...]


class SearchResult(Artefact):
    """`build/solutions/SEARCH.json`: the answer of a search with its proof.

    `bound` is a proven bound on the objective; `gap` is relative. "optimal" means proven within the gap that was asked for;
    `unknown` has no solution, and the bound that was proven before time ran out.
    `conflict_minimal`: every requirement of the conflict was shown to be needed for it. `found_by` and `proved_by` name the part
    of the search that found the first solution and the one that ended the proof (or has the best bound); empty for a heuristic.
    """

    search: str
    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    solver: str = "cpsat"
    found_by: str = ""
    proved_by: str = ""
    solutions: tuple[Solution, ...] = ()
    parent_metrics: dict[str, float] = {}
    conflict: tuple[ConflictItem, ...] = ()
    conflict_minimal: bool = True
    relaxation: Relaxation | None = None


class FrontierPoint(Frozen):
    """One solved point of a frontier.

    `target` is in the base unit of the swept metric. `ratio` is relative to the parent if the frontier sweeps a ratio; where
    the batch size is a decision, the figure of the parent differs from point to point.
    """

    target: float
    ratio: float | None = None
    result: SearchResult


class FrontierResult(Artefact):
    """`build/search/FRONTIER.json`."""

    frontier: str
    search: str
    points: tuple[FrontierPoint, ...]
