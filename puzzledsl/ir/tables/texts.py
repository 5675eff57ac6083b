"""Text: the lines that a parent writes, and the counts of a source that was tokenised."""

from __future__ import annotations

from puzzledsl.base.frozen import Frozen


class WrittenText(Frozen):
    """A line of `build/sampled/*.jsonl`: a document's tokens, of which the first `prompt` were given, and the same as text."""

    ids: tuple[int, ...]
    prompt: int
    text: str


class TextCounts(Frozen):
    """Text of one source as it was tokenised: what was kept, and what was left out.

    `source`: its node (ir.nodes) as JSON. `learned_tokens`: those that losses count. `duplicates`: exact copies of documents,
    left out if `copies_dropped`. `other_part`: documents outside `part`. `unanswered`: conversations without an answer.
    `cut_tokens`: tokens of the last document behind `take`; `stopped`: `take` ended the stream.
    """

    name: str
    source: str
    documents: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    duplicates: int = 0
    copies_dropped: bool = False
    other_part: int = 0
    unanswered: int = 0
    cut_tokens: int = 0
    stopped: bool = False
