"""One batch of documents, drawn from a model token by token with a KV cache. Shape legend: B rows, T tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from puzzledsl.ir.tables import WrittenText
from puzzledsl.models.kernels.products import fast_products


class _Tick(StoppingCriteria):
    """Calls a function at every token, and never stops: progress and Ctrl-C reach a long batch."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    def __call__(self, input_ids: Tensor, scores: Any, **given: Any) -> Tensor:
        self._tick()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.inference_mode()
def sampled_batch(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    length: int,
    ends: Sequence[int],
    temperature: float,
    top_k: int | None,
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> tuple[WrittenText, ...]:
    """Return a document for each prompt: at most `length` more tokens, up to one of `ends`, and the end-of-text token.

    Tokens are drawn from softmax(logits / temperature), of the `top_k` likeliest ones if it is given. Random numbers depend on
    `seed` and the number of rows, and no other random numbers of the process change.
    """
    generator: Any = model
    pad = ends[0] if ends else 0
    longest = max(map(len, prompts))
    ids_BT = torch.full((len(prompts), longest), pad)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.tensor(prompt)
    lengths_B1 = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    mask_BT = (torch.arange(longest) >= longest - lengths_B1).long()
    config: Any = GenerationConfig
    model.generation_config = config(  # the parent's own may penalise repetition, or cut the tail
        do_sample=True,
        temperature=temperature,
        top_k=top_k or 0,
        top_p=1.0,
        max_new_tokens=length,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), fast_products(model.device):
        torch.manual_seed(seed)
        said = generator.generate(
            ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            stopping_criteria=StoppingCriteriaList([_Tick(tick)]),
        )
    end = tokenizer.eos_token_id
    return tuple(
        _document([*prompt], row, ends, end, tokenizer)
        for prompt, row in zip(prompts, said[:, longest:].tolist(), strict=True)
    )


def _document(
    prompt: list[int], written: list[int], ends: Sequence[int], end: int | None, tokenizer: Any
) -> WrittenText:
    """Cut behind the first end, behind which a row is padded; a document ends with the end-of-text token, as texts do."""
    place = next((i for i, token in enumerate(written) if token in ends), len(written))
    ids = [*prompt, *written[: place + 1]]
    if end is not None and ids[-1] != end:
        ids.append(end)
    return WrittenText(
        ids=tuple(ids), prompt=len(prompt), text=str(tokenizer.decode(ids, skip_special_tokens=True))
    )
