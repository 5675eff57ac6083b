"""Prompts of an evaluation, given by the program or beginnings of documents, and their greedy continuations.

Shape legend: N blocks, T tokens of a block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.frozen import Record
from puzzledsl.data.chat import Asked, prompts_of_file
from puzzledsl.data.tasks import padded_batches
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Eval
from puzzledsl.plan.memory.stage_plan import tiles

ANSWER_TOKENS = 64
"""Longest answer. A model that repeats itself does so in far fewer tokens."""
MOST = 16
"""Most prompts that are answered: the first ones of those given."""
FROM_TEXTS = 3
"""Number of prompts that are beginnings of documents, if none are given: as many from each text, rounded up."""
SHORTEST = 24  # tokens of a document that a prompt is taken from
PROMPT_TOKENS = 32  # of a document's beginning, up to the next word
NEXT_WORD = 8  # tokens to look for it
BEGINNINGS = ("Ġ", "▁", "Ċ", " ")  # of a word, as tokenizers write them


class PromptTokens(Record):
    """A prompt as text and tokens. `source`: its text or file, empty if inline; `continuation`: how the text goes on."""

    text: str
    ids: tuple[int, ...]
    source: str = ""
    continuation: str = ""


def prompts_of(
    declaration: Eval, base: Path, tokenizer: Any, positions: int, texts: Mapping[str, Tensor]
) -> tuple[PromptTokens, ...]:
    """Return the prompts. `positions`: most tokens of a sequence; `texts`: token ids [N, T] by name. Raises DiagnosticError."""
    given, span = declaration.prompts, span_of(declaration.where)
    if given is None:
        each = -(-FROM_TEXTS // len(texts))
        found = (_beginnings(of_NT, tokenizer, positions, name, each) for name, of_NT in texts.items())
        return tuple(chain.from_iterable(found))
    if given.path is None:
        asked = tuple(Asked.of(text, f"prompt {number}") for number, text in enumerate(given.texts, 1))
        source = ""
    else:
        asked, source = prompts_of_file(base / given.path, span), given.path
    return tuple(_encoded(one, tokenizer, positions, source, span) for one in asked[:MOST])


def _encoded(asked: Asked, tokenizer: Any, positions: int, source: str, span: Any) -> PromptTokens:
    ids, limit = asked.ids(tokenizer, span), positions - ANSWER_TOKENS
    if len(ids) > limit:
        raise asked.bad(f"it has {len(ids):,} tokens, and at most {limit:,} leave room for an answer", span)
    return PromptTokens(asked.text, tuple(ids), source)


def _beginnings(
    blocks_NT: Tensor, tokenizer: Any, positions: int, source: str, count: int
) -> Iterator[PromptTokens]:
    """Yield up to `count` beginnings of documents, evenly spread; if too few are SHORTEST tokens long, beginnings of blocks."""
    rows: list[list[int]] = blocks_NT.tolist()
    begun: list[list[int]] = []
    for row in rows:
        ends = [*(place for place, token in enumerate(row) if token == tokenizer.eos_token_id), len(row)]
        begun += [row[a + 1 : b] for a, b in pairwise(ends) if b - a > SHORTEST]
    if len(begun) < count:
        begun = rows
    count = min(count, len(begun))
    for chosen in (begun[number * len(begun) // count] for number in range(count)):
        length = _to_next_word(chosen, min(PROMPT_TOKENS, max(1, len(chosen) // 2)), tokenizer)
        ids, rest = chosen[:length], chosen[length : length + ANSWER_TOKENS]
        if length + ANSWER_TOKENS <= positions:
            yield PromptTokens(_decode(tokenizer, ids), tuple(ids), source, _decode(tokenizer, rest))


def _to_next_word(ids: Sequence[int], length: int, tokenizer: Any) -> int:
    """Return the first length from `length` on at which a word ends; `length` itself if none of the next NEXT_WORD is one."""
    for place in range(length, min(length + NEXT_WORD, len(ids))):
        token = tokenizer.convert_ids_to_tokens(ids[place])
        if isinstance(token, str) and token.startswith(BEGINNINGS):
            return place
    return length


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


class Prompt(Record):
    """Tokens to continue by at most `length` tokens, and no further than the first of the texts in `until`."""

    ids: tuple[int, ...]
    length: int
    until: tuple[str, ...]


def continuations(
    model: PreTrainedModel, tokenizer: Any, prompts: Sequence[Prompt], advance: Callable[[int], None]
) -> list[str]:
    """Return the text that greedy decoding adds to each prompt, cut before its stop. `advance` gets numbers of finished ones."""
    rows = continued_ids(model, tokenizer, prompts, advance)
    found = []
    for ids, prompt in zip(rows, prompts, strict=True):
        text = _decode(tokenizer, ids)
        stops = (text.find(stop) for stop in prompt.until if stop in text)
        found.append(text[: min(stops, default=len(text))])
    return found


def continued_ids(
    model: PreTrainedModel, tokenizer: Any, prompts: Sequence[Prompt], advance: Callable[[int], None]
) -> list[list[int]]:
    """Return the tokens that greedy decoding adds to each prompt: up to and with its stop, or up to the end-of-text token."""
    found: list[list[int]] = [[] for _ in prompts]
    kinds = [(prompt.length, prompt.until) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (kinds[i], -len(prompts[i].ids)))
    most = tiles(model.device.type).generated_tokens
    for _, alike in groupby(order, key=kinds.__getitem__):
        for batch in padded_batches(alike, lambda i: len(prompts[i].ids) + prompts[i].length, most):
            rows = _generate(model, tokenizer, [prompts[i] for i in batch])
            for i, ids in zip(batch, rows, strict=True):
                found[i] = ids
            advance(len(batch))
    return found


@torch.inference_mode()
def _generate(model: PreTrainedModel, tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Return the new tokens of prompts that share one `length` and `until`, in one batch that is padded on the left."""
    generator: Any = model
    (length, until), longest = (prompts[0].length, prompts[0].until), max(len(p.ids) for p in prompts)
    ids_BT = torch.full((len(prompts), longest), tokenizer.eos_token_id)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt.ids) :] = torch.tensor(prompt.ids)
    lengths_B1 = torch.tensor([len(prompt.ids) for prompt in prompts])[:, None]
    mask_BT = torch.arange(longest) >= longest - lengths_B1
    said = generator.generate(
        ids_BT.to(model.device),
        attention_mask=mask_BT.long().to(model.device),
        do_sample=False,
        repetition_penalty=1.0,  # some parents' own is not
        max_new_tokens=length,
        stop_strings=list(until) or None,
        tokenizer=tokenizer,
        pad_token_id=tokenizer.eos_token_id,
    )
    end, rows = tokenizer.eos_token_id, said[:, longest:].tolist()  # behind the end of a text is padding
    return [ids[: ids.index(end)] if end in ids else ids for ids in rows]
