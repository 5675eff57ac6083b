"""Meaning of `parent` and `data`: a checkpoint or a shape, and the texts to train and score on."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from puzzledsl.alternatives.computation import USUAL, Computation
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.frozen import BY_KIND, Frozen, left_out
from puzzledsl.base.settings import setting
from puzzledsl.ir.base import Declaration, Exact

_REVISION = "A branch, tag or commit of the hub's repository."
_HF = 'write `hf("meta-llama/Llama-3.1-8B")`, or a directory'


class HfSource(Frozen):
    """A checkpoint of the Hugging Face hub, or a directory."""

    kind: Literal["hf"] = "hf"
    id: str = setting("The id on the hub, or a directory relative to this file.", positional=True, write=_HF)
    revision: str | None = setting(_REVISION, default=None)


class ShapeSource(Frozen):
    """No checkpoint: only the shape is known."""

    kind: Literal["shape"] = "shape"


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
_SAMPLED = "write `sampled(p, tokens: 1M)`, where `p` is a parent"


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


class TextData(Picked):
    """Text files; blank lines separate documents."""

    kind: Literal["text"] = "text"
    paths: tuple[str, ...] = _PATHS


class JsonlData(Rows):
    """JSON lines: one document or conversation a line."""

    kind: Literal["jsonl"] = "jsonl"
    paths: tuple[str, ...] = _PATHS
    column: str = _COLUMN


class ParquetData(Rows):
    """Parquet files: one document or conversation a row."""

    kind: Literal["parquet"] = "parquet"
    paths: tuple[str, ...] = _PATHS
    column: str = _COLUMN


class HfData(Rows):
    """A data set of the Hugging Face hub, streamed; or a local directory of the same form."""

    kind: Literal["hf"] = "hf"
    id: str = setting("Its id, or a directory relative to this file.", positional=True)
    split: str = setting("The part that is read.", default="train", bare=True)
    column: str = _COLUMN
    subset: str | None = setting("Its subset, where it has several.", elsewhere=("name", "config"), **_BARE)
    revision: str | None = setting(_REVISION, default=None, left_out=True)


class SampledData(Picked):
    """Text that a parent writes itself: `sampled(p, tokens: 1M)`."""

    kind: Literal["sampled"] = "sampled"
    parent: str = setting("The parent that writes.", kinds=("parent",), positional=True, write=_SAMPLED)
    tokens: int = setting("Tokens of all documents.", at_least=1, write=_SAMPLED)
    temperature: float = setting(
        "Logits are divided by it; 1 changes nothing.", default=1.0, at_least=Fraction(1, 100), at_most=100
    )
    prompts: str | None = setting(
        'A file of prompts, `"p.jsonl"` or `"p.txt"`, that documents go on from in turn.',
        default=None,
        shown="documents begin from nothing",
    )
    length: int = setting("Tokens that the parent writes in one document, at most.", default=512, at_least=1)
    top_k: int | None = setting(
        "Tokens that each is drawn from: the likeliest ones.", default=None, at_least=1, shown="all"
    )
    seed: int = setting("Makes the text repeatable.", default=0)
    dtype: Literal["fp32", "bf16"] | None = setting(
        "Number type of the computation.",
        default=None,
        noun="dtype of sampling",
        shown="`bf16` where the machine multiplies it itself, else `fp32`",
    )

    @property
    def text(self) -> str:
        """Name of the text that it stands for, whichever of its documents are picked: `smollm-3f2a1b…`."""
        written = self.model_dump_json(exclude={"part", "take", "duplicates"})
        return f"{self.parent}-{hashlib.sha256(written.encode()).hexdigest()[:16]}"


class TaskData(Picked):
    """Questions of multiple-choice tasks, each with its right answer."""

    kind: Literal["tasks"] = "tasks"
    paths: tuple[str, ...] = setting(
        "Task files as `eval` takes them, relative to this file.", word="path", positional=True
    )


PlainData = Annotated[TextData | JsonlData | ParquetData | HfData | SampledData | TaskData, BY_KIND]


class MixPart(Frozen):
    """One of the texts of a mix. Its share of the blocks is `weight` over the sum of all weights.

    `name`: of its declaration; its text in the program if it is `inline` and has none.
    """

    name: str
    weight: int
    source: PlainData
    inline: bool = left_out(False)


class MixData(Frozen):
    """Blocks of several texts in fixed proportions; no part is a mix itself."""

    kind: Literal["mix"] = "mix"
    parts: tuple[MixPart, ...]


class Data(Declaration):
    """Text to train or score on."""

    source: Annotated[TextData | JsonlData | ParquetData | HfData | SampledData | TaskData | MixData, BY_KIND]
