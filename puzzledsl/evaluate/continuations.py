"""Greedy decoding of many prompts, in batches padded on their left, with a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers import PreTrainedModel

from puzzledsl.plan.memory.stage_plan import tiles


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens to go on from: by at most `length` tokens, up to the first of the texts in `until`."""

    ids: tuple[int, ...]
    length: int
    until: tuple[str, ...]


def continuations(
    model: PreTrainedModel, tokenizer: Any, prompts: Sequence[Prompt], advance: Callable[[int], None]
) -> list[str]:
    """Decode greedily after each prompt. Prompts of similar length that end alike go together, padded on their left."""
    rows = continued_ids(model, tokenizer, prompts, advance)
    return [_text(ids, tokenizer, prompt.until) for ids, prompt in zip(rows, prompts, strict=True)]


def continued_ids(
    model: PreTrainedModel, tokenizer: Any, prompts: Sequence[Prompt], advance: Callable[[int], None]
) -> list[list[int]]:
    """Return the tokens of `continuations`, without the end-of-text token and what follows it."""
    found: list[list[int]] = [[] for _ in prompts]
    order = sorted(
        range(len(prompts)), key=lambda i: (prompts[i].length, prompts[i].until, -len(prompts[i].ids))
    )
    for _, alike in groupby(order, key=lambda i: (prompts[i].length, prompts[i].until)):
        for batch in _batches(list(alike), prompts, tiles(model.device.type).generated_tokens):
            rows = _generate(model, tokenizer, [prompts[i] for i in batch])
            for i, ids in zip(batch, rows, strict=True):
                found[i] = ids
            advance(len(batch))
    return found


def _batches(order: Sequence[int], prompts: Sequence[Prompt], tokens: int) -> Iterator[list[int]]:
    """Yield runs of prompts, longest first, of at most `tokens` tokens with padding and what is generated (or one prompt)."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * (len(prompts[batch[0]].ids) + prompts[i].length) > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def _generate(model: PreTrainedModel, tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Continue prompts with one `length` and `until`."""
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
    return [_before_end(row, tokenizer.eos_token_id) for row in said[:, longest:].tolist()]


def _before_end(ids: list[int], end: int) -> list[int]:
    """Cut a row at the end-of-text token, behind which it is padded."""
    return ids[: ids.index(end)] if end in ids else ids


def _text(ids: Sequence[int], tokenizer: Any, until: Sequence[str]) -> str:
    """Decode a row, and cut it at the first stop."""
    text = str(tokenizer.decode(ids, skip_special_tokens=True))
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
