"""Size of a space and the training work of its pieces."""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.ir.facts import log10_children
from puzzledsl.ir.nodes import Program
from puzzledsl.plan.bld import bld_plan


@dataclass(frozen=True, slots=True)
class BldSummary:
    """One BLD declaration of a space: the number of pieces and the sum of their training tokens."""

    jobs: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SpaceSummary:
    """Size of a space. `alternatives[layer]` is (attention, ffn); `ends` counts the choices of the model's ends.

    `log10_children` is the decimal logarithm of the number of children.
    """

    layers: int
    alternatives: tuple[tuple[int, int], ...]
    log10_children: float
    ends: int
    blds: dict[str, BldSummary]

    @property
    def jobs(self) -> int:
        """Number of pieces of all BLD declarations."""
        return sum(bld.jobs for bld in self.blds.values())

    @property
    def tokens(self) -> int:
        """Number of training tokens of all BLD declarations."""
        return sum(bld.tokens for bld in self.blds.values())


def space_summary(program: Program, space: str) -> SpaceSummary:
    """Return the size of a space and of the BLD declarations that use it."""
    here = program.spaces[space]
    alternatives = tuple((len(c.attention), len(c.ffn)) for c in here.layers)
    blds = {}
    for name, bld in program.blds.items():
        if bld.space == space:
            jobs = bld_plan(program, name)
            blds[name] = BldSummary(len(jobs), sum(job.tokens for job in jobs))
    return SpaceSummary(
        len(alternatives),
        alternatives,
        log10_children(here),
        1 if here.ends is None else len(here.ends.offered),
        blds,
    )
