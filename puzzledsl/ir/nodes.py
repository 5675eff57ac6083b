"""Meaning of a program, after names, types, units and overrides are resolved.

Frozen; its JSON is byte-identical for the same source.

Guarantees to later stages: every name refers to something declared; every layer has at least one alternative a sub-block;
every quantity is exact in base units (bytes, seconds, FLOP, tokens, or a plain number); expressions in searches are linear.
Declarations are dictionaries keyed by name; `where` remembers the order of the source. What a search says is in
`search_nodes`, and is had from here as well.
"""

from __future__ import annotations

from itertools import product

from puzzledsl.alternatives.ends import ParentEmbedding, ParentHead
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.shape import Initialisers as Initialisers
from puzzledsl.alternatives.shape import Shape as Shape
from puzzledsl.base.frozen import Frozen, left_out
from puzzledsl.base.settings import setting
from puzzledsl.ir.base import Artefact, Declaration, Exact
from puzzledsl.ir.base import Where as Where
from puzzledsl.ir.data_nodes import *  # noqa: F403
from puzzledsl.ir.data_nodes import Data, Parent
from puzzledsl.ir.hardware_nodes import *  # noqa: F403
from puzzledsl.ir.hardware_nodes import Hardware, Scenario
from puzzledsl.ir.search_nodes import *  # noqa: F403
from puzzledsl.ir.search_nodes import Frontier, Search
from puzzledsl.ir.stage_nodes import *  # noqa: F403  # noqa: F403
from puzzledsl.ir.stage_nodes import Bld, Eval, Export, Judge, Score, Uptrain


class LayerChoice(Frozen):
    """Alternatives of one layer, in the order written; a parent-equal alternative is `parent`."""

    attention: tuple[AttentionAlternative, ...]
    ffn: tuple[FfnAlternative, ...]

    def with_parent(self) -> LayerChoice:
        """Return the choice with the parent's sub-blocks in it, at the end where it lacks them."""
        return LayerChoice(
            attention=tuple(dict.fromkeys((*self.attention, ParentAttention()))),
            ffn=tuple(dict.fromkeys((*self.ffn, ParentFfn()))),
        )

    @classmethod
    def of_parent(cls) -> LayerChoice:
        """Return the choice of a layer that stays as it is."""
        return cls(attention=(ParentAttention(),), ffn=(ParentFfn(),))

    def by_name(self) -> tuple[dict[str, AttentionAlternative], dict[str, FfnAlternative]]:
        """Return the alternatives by canonical name, the parent's among them."""
        full = self.with_parent()
        return {a.name: a for a in full.attention}, {f.name: f for f in full.ffn}


class EndsChoice(Frozen):
    """Alternatives of the whole model's embedding and output head, in the order written."""

    embedding: tuple[ParentEmbedding, ...] = (ParentEmbedding(),)
    head: tuple[ParentHead, ...] = (ParentHead(),)

    @property
    def offered(self) -> tuple[str, ...]:
        """Names of every choice of both, in the order of the space: `parent/parent@q4_0`."""
        return tuple(f"{e.name}/{h.name}" for e, h in product(self.embedding, self.head))

    def by_name(self) -> dict[str, tuple[ParentEmbedding, ParentHead]]:
        """Return every choice of both by its name, the parent's own among them."""
        both = (*product(self.embedding, self.head), (ParentEmbedding(), ParentHead()))
        return {f"{e.name}/{h.name}": (e, h) for e, h in both}


class Rounding(Frozen):
    """A width that was rounded: `asked` is the source text, `exact` the channels it meant, `width` what it became."""

    asked: str
    exact: Exact
    width: int
    where: Where


class UsedBy(Frozen):
    """The sub-space of what a search's best solutions use, for coupled BLD.

    Its layers are known once the search is solved.
    """

    search: str = setting(
        "The search whose solutions count.",
        kinds=("search",),
        positional=True,
        write="write `used_by(search, top: 10)`",
    )
    top: int = setting("The number of its best solutions.", default=10, at_least=1, at_most=10_000)


class Space(Declaration):
    """Alternatives of every layer."""

    parent: str
    layers: tuple[LayerChoice, ...]
    ends: EndsChoice | None = left_out(None)
    """None: both ends stay as they are, in the types that the hardware says."""
    init: Initialisers = Initialisers()
    used_by: UsedBy | None = None
    roundings: tuple[Rounding, ...] = ()


class Program(Artefact):
    """A whole `.pzl` program: `build/ir.json`. `source` is the file's name, `params` the values `--set` gave or the defaults.

    `given`: the parameters that `--set` gave.
    """

    source: str
    params: dict[str, str] = {}
    given: tuple[str, ...] = left_out(())
    parents: dict[str, Parent] = {}
    data: dict[str, Data] = {}
    hardware: dict[str, Hardware] = {}
    scenarios: dict[str, Scenario] = {}
    spaces: dict[str, Space] = {}
    blds: dict[str, Bld] = {}
    scores: dict[str, Score] = {}
    judges: dict[str, Judge] = left_out({})
    searches: dict[str, Search] = {}
    frontiers: dict[str, Frontier] = {}
    uptrains: dict[str, Uptrain] = {}
    evals: dict[str, Eval] = {}
    exports: dict[str, Export] = {}
