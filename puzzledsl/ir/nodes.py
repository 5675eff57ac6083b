"""Meaning of a program, after names, types, units and overrides are resolved.

Frozen; its JSON is byte-identical for the same source.

Guarantees to later stages: every name refers to something declared; every layer has at least one alternative a sub-block;
every quantity is exact in base units (such as bytes, seconds, FLOP, tokens); expressions in searches are linear.
Declarations are dictionaries keyed by name; `where` remembers the order of the source. What a search says is in
`search_nodes`; its names, those of `hardware_nodes` and of `stage_nodes` are exported here, too.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, ClassVar, Literal, Self

from puzzledsl.alternatives.parent import ParentAttention, ParentEmbedding, ParentFfn, ParentHead
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.shape import Initialisers as Initialisers
from puzzledsl.alternatives.shape import Shape as Shape
from puzzledsl.alternatives.weights import USUAL, Computation
from puzzledsl.base.frozen import BY_KIND, Frozen, left_out
from puzzledsl.base.settings import setting
from puzzledsl.ir.base import Artefact, Declaration, Exact
from puzzledsl.ir.base import Where as Where
from puzzledsl.ir.hardware_nodes import *  # noqa: F403
from puzzledsl.ir.hardware_nodes import Hardware, Scenario
from puzzledsl.ir.search_nodes import *  # noqa: F403
from puzzledsl.ir.search_nodes import Frontier, Search
from puzzledsl.ir.stage_nodes import *  # noqa: F403
from puzzledsl.ir.stage_nodes import Bld, Eval, Export, Judge, Score, Uptrain

_REVISION = "A branch, tag or commit of the hub's repository."
_HF = 'write `hf("meta-llama/Llama-3.1-8B")`, or a directory'


class HfSource(Frozen, kind="hf"):
    """A checkpoint of the Hugging Face hub, or a directory."""

    id: str = setting("The id on the hub, or a directory relative to this file.", positional=True, write=_HF)
    revision: str | None = setting(_REVISION, default=None)


class ShapeSource(Frozen, kind="shape"):
    """No checkpoint: only the shape is known."""


class Parent(Declaration):
    """The model that is taken apart."""

    source: Annotated[HfSource | ShapeSource, BY_KIND]
    shape: Shape
    computation: Computation = left_out(USUAL)


_PART = "Part of the documents, by their digests: `0%..95%` to train, `95%..100%` to hold out."


class Picked(Frozen):
    """Documents that a source gives: all of them unless said otherwise.

    `part`: those whose content's digest, as a share of all digests, lies from the first bound up to below the second; equal
    documents are in the same part. `duplicates`: None stands for "keep" of text files and for "drop" of all other sources.
    """

    example: ClassVar[str] = '("…")'
    part: tuple[Exact, Exact] | None = setting(_PART, default=None, shown="`0%..100%`", left_out=True)
    take: int | None = setting(
        "The first so many tokens alone: `10M`.", default=None, at_least=1, shown="all", left_out=True
    )
    duplicates: Literal["drop", "keep"] | None = setting(
        "Exact copies of a document are dropped or kept.",
        default=None,
        noun="treatment of duplicates",
        shown="`drop`; `keep` for `text`",
        left_out=True,
    )


_PATHS = setting("A path or glob, relative to this file.", word="path", positional=True)
_COLUMN = setting("The field that holds the text.", default="text", bare=True)
_BARE: dict[str, Any] = {"default": None, "bare": True, "left_out": True}


class Rows(Picked):
    """Documents in records: a text in `column`, or a conversation in the field `messages`."""

    messages: str | None = setting(
        "The field that holds a conversation, written with the parent's chat template.",
        elsewhere=("conversations", "conversation", "chat"),
        **_BARE,
    )
    loss: Literal["all", "answers"] = setting(
        "Tokens of a conversation that losses count: all, or the assistant's answers alone.",
        default="all",
        noun="part of a conversation",
        left_out=True,
    )


class TextData(Picked, kind="text"):
    """Text files; blank lines separate documents."""

    paths: tuple[str, ...] = _PATHS


class JsonlData(Rows, kind="jsonl"):
    """JSON lines: one document or conversation a line."""

    paths: tuple[str, ...] = _PATHS
    column: str = _COLUMN


class ParquetData(Rows, kind="parquet"):
    """Parquet files: one document or conversation a row."""

    paths: tuple[str, ...] = _PATHS
    column: str = _COLUMN


class HfData(Rows, kind="hf"):
    """A data set of the Hugging Face hub, streamed; or a local directory of the same form."""

    id: str = setting("Its id, or a directory relative to this file.", positional=True)
    split: str = setting("The part that is read.", default="train", bare=True)
    column: str = _COLUMN
    subset: str | None = setting("Its subset, where it has several.", elsewhere=("name", "config"), **_BARE)
    revision: str | None = setting(_REVISION, default=None, left_out=True)


class TaskData(Picked, kind="tasks"):
    """Questions of multiple-choice tasks, each with its right answer."""

    paths: tuple[str, ...] = setting(
        "Task files as `eval` takes them, relative to this file.", word="path", positional=True
    )


PlainData = Annotated[TextData | JsonlData | ParquetData | HfData | TaskData, BY_KIND]


class MixPart(Frozen):
    """One of the texts of a mix. Its share of the blocks is `weight` over the sum of all weights."""

    name: str
    weight: int
    source: PlainData


class MixData(Frozen, kind="mix"):
    """Blocks of several texts in fixed proportions; no part is a mix itself."""

    parts: tuple[MixPart, ...]


class Data(Declaration):
    """Text to train or score on."""

    source: Annotated[TextData | JsonlData | ParquetData | HfData | TaskData | MixData, BY_KIND]


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
    def of_parent(cls) -> Self:
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
    """The sub-space of what a search's best solutions use, for coupled BLD. Its layers are known once the search is solved."""

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
