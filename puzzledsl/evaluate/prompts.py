"""Prompts of an evaluation: those that the program gives, or three beginnings of documents of its first text.

Shape legend: N blocks, T tokens of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.prompts import Asked, prompts_of_file, prompts_of_program
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Eval

ANSWER_TOKENS = 64
"""Longest answer. A model that repeats itself does so in far fewer tokens."""
MOST = 16
"""Prompts that are answered at most: the first of a file."""
FROM_TEXT = 3
SHORTEST = 24  # tokens of a document that a prompt is taken from
PROMPT_TOKENS = 32  # of a document's beginning, up to the next word
NEXT_WORD = 8  # tokens to look for it
BEGINNINGS = ("Ġ", "▁", "Ċ", " ")  # of a word, as tokenizers write them


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """A prompt as text and tokens. `source`: the text or the file that it is from; `continuation`: how the text goes on."""

    text: str
    ids: tuple[int, ...]
    source: str = ""
    continuation: str = ""


def prompts_of(
    declaration: Eval, base: Path, tokenizer: Any, positions: int, text: str, blocks_NT: Tensor
) -> tuple[PromptTokens, ...]:
    """Return the prompts of an evaluation. `text`: name of the text of `blocks_NT`.

    Raises DiagnosticError: PromptsUnreadable, BadPrompt.
    """
    given, span = declaration.prompts, span_of(declaration.where)
    if given is None:
        return tuple(_beginnings(blocks_NT, tokenizer, positions, text))
    if given.path is None:
        asked, source = prompts_of_program(given.texts), ""
    else:
        asked, source = prompts_of_file(base / given.path, span), given.path
    return tuple(_encoded(one, tokenizer, positions, source, span) for one in asked[:MOST])


def _encoded(asked: Asked, tokenizer: Any, positions: int, source: str, span: Any) -> PromptTokens:
    ids, limit = asked.ids(tokenizer, span), positions - ANSWER_TOKENS
    if len(ids) > limit:
        raise DiagnosticError(asked.too_long(len(ids), limit, span))
    return PromptTokens(asked.text, tuple(ids), source)


def _beginnings(blocks_NT: Tensor, tokenizer: Any, positions: int, source: str) -> Iterator[PromptTokens]:
    """Yield beginnings of documents at equal distances; of a text without documents of some length, beginnings of blocks."""
    rows: list[list[int]] = blocks_NT.tolist()
    begun = [document for row in rows for document in _documents(row, tokenizer.eos_token_id)]
    if len(begun) < FROM_TEXT:
        begun = rows
    count = min(FROM_TEXT, len(begun))
    for chosen in (begun[number * len(begun) // count] for number in range(count)):
        length = _to_next_word(chosen, min(PROMPT_TOKENS, max(1, len(chosen) // 2)), tokenizer)
        ids, rest = chosen[:length], chosen[length : length + ANSWER_TOKENS]
        if length + ANSWER_TOKENS <= positions:
            yield PromptTokens(_decode(tokenizer, ids), tuple(ids), source, _decode(tokenizer, rest))


def _documents(row: list[int], end: int | None) -> list[list[int]]:
    """Return the documents of some length that begin in a block, without their end-of-text token."""
    ends = [*(place for place, token in enumerate(row) if token == end), len(row)]
    found = [row[a + 1 : b] for a, b in pairwise(ends)]
    return [document for document in found if len(document) >= SHORTEST]


def _to_next_word(ids: Sequence[int], length: int, tokenizer: Any) -> int:
    """Return a length at which a word ends: the first from `length` on, if it is near."""
    for place in range(length, min(length + NEXT_WORD, len(ids))):
        token = tokenizer.convert_ids_to_tokens(ids[place])
        if isinstance(token, str) and token.startswith(BEGINNINGS):
            return place
    return length


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))
