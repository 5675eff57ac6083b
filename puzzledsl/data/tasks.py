"""Multiple-choice tasks: JSON lines of `{"context": …, "choices": […], "answer": index}`.

A model reads `context + " " + choice` and is scored on the choice's tokens. `context` may be a list of one context a choice:
WinoGrande fills a blank and scores what follows it (Trinh & Le 2018). `"normalised": false`: never scored per character.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.frozen import Record
from puzzledsl.data.errors import BadTask, TasksMissing


class Item(Record):
    """One question. `answer`: the right choice's index. `context`: of all, or one each. `normalised`: scored per character."""

    context: str | tuple[str, ...]
    choices: tuple[str, ...]
    answer: int
    normalised: bool = field(default=True, repr=False)

    @property
    def contexts(self) -> tuple[str, ...]:
        """The context of each choice."""
        return (self.context,) * len(self.choices) if isinstance(self.context, str) else self.context


class EncodedChoice(Record):
    """Token ids of context and choice together; the choice starts at `start` (at least 1)."""

    ids: tuple[int, ...]
    start: int


T = TypeVar("T")


def padded_batches(items: Iterable[T], length: Callable[[T], int], tokens: int) -> Iterator[list[T]]:
    """Yield runs of consecutive items: one item, or at most `tokens` tokens with padding. `length` counts an item's tokens."""
    batch, longest = list[T](), 0
    for item in items:
        longest = max(longest, length(item))
        if batch and (len(batch) + 1) * longest > tokens:
            yield batch
            batch, longest = [], length(item)
        batch.append(item)
    if batch:
        yield batch


def read_tasks(path: Path, limit: int | None = None, *, span: Span | None = None) -> tuple[Item, ...]:
    """Return the first `limit` items (default: all). Raises DiagnosticError, at `span`, for a missing file or an invalid line."""
    try:
        with path.open(encoding="utf-8") as lines:
            numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DiagnosticError(TasksMissing(span, file=path, reason=str(error))) from error
    found = []
    for number, line in islice(numbered, limit):
        try:
            found.append(_item(line))
        except ValueError as error:
            raise DiagnosticError(BadTask(span, file=path, line=number, reason=str(error))) from error
    return tuple(found)


def _item(line: str) -> Item:
    """Return the item of one line of JSON. Raises ValueError with the reason if it has none."""
    try:
        record = json.loads(line)
        context, choices, answer = record["context"], record["choices"], record["answer"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    several = isinstance(choices, list) and len(choices) >= 2
    contexts = context if isinstance(context, list) else [context]
    if not several or not all(isinstance(text, str) and text for text in (*contexts, *choices)):
        raise ValueError("a context and at least two choices are texts")
    if isinstance(context, list) and len(context) != len(choices):
        counts = f"{len(context)} contexts for {len(choices)} choices"
        raise ValueError(f"{counts}; a list has one context a choice")
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise ValueError("`answer` is the index of a choice")
    if not isinstance(normalised := record.get("normalised", True), bool):
        raise ValueError("`normalised` is true or false")
    return Item(tuple(context) if isinstance(context, list) else context, tuple(choices), answer, normalised)


def encode_item(tokenizer: Any, item: Item) -> tuple[EncodedChoice, ...]:
    """Return the tokens of each choice behind its context, see `encode_choice`."""
    return tuple(map(partial(encode_choice, tokenizer), item.contexts, item.choices))


def answered(item: Item) -> str:
    """Return the question with its right answer, as a model reads them."""
    return f"{item.contexts[item.answer]} {item.choices[item.answer]}"


def encode_choice(tokenizer: Any, context: str, choice: str) -> EncodedChoice:
    """Return the tokens of `context + " " + choice`, without an end token. A token that spans both belongs to the choice."""
    begun: list[int] = tokenizer(context)["input_ids"]
    ids: list[int] = tokenizer(f"{context} {choice}")["input_ids"]
    end = tokenizer.eos_token_id
    if ids[-1:] == [end]:
        ids = ids[:-1]
    return EncodedChoice(tuple(ids), max(1, min(common_prefix(begun, ids), len(ids) - 1)))


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the number of elements before the first difference."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
