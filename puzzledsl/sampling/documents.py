"""Documents that a parent writes, batch by batch: a batch's random numbers depend on the seed and its own number alone.

So a finished batch is kept as it is, and the text is the same whether or not it was interrupted. Shape legend: B rows.

One batch of documents, drawn from a model token by token with a KV cache. Shape legend: B rows, T tokens.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.files import read_sealed, replacing, write_sealed
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.data.chat import Asked, prompts_of_file
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import WrittenText
from puzzledsl.models.families.load import load_config, load_parent, load_tokenizer
from puzzledsl.models.kernels.products import fast_products
from puzzledsl.models.placement import SHARE, faster_in_bfloat16, free_bytes, placement, weights_bytes
from puzzledsl.sampling.errors import NothingToBeginWith, TooLargeToSample


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


ROWS = 64
"""Documents of a batch. Their number decides about the random numbers, so it is the same on every device."""
POSITIONS = 2048  # of a parent that does not say how many it has
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_BATCH = TypeAdapter(tuple[WrittenText, ...])


@dataclass(frozen=True)
class SampleInputs:
    """Inputs of one text. Prompts are relative to `base`; finished batches are kept in `work` until the text is written."""

    source: nodes.SampledData
    name: str
    span: Span
    parent_dir: Path
    base: Path
    output: Path
    work: Path
    progress: Progress


def run_sample(inputs: SampleInputs) -> Path:
    """Write the text; return its file.

    The same seed gives the same bytes on machines of one kind. Raises DiagnosticError: TooLargeToSample, NothingToBeginWith,
    PromptsUnreadable, BadPrompt, those of loading.
    """
    source, progress = inputs.source, inputs.progress
    writer = _Writer(inputs)
    progress.start(f"sampling {inputs.name}", source.tokens)
    with replacing(inputs.output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for document in _enough(writer.batches(), source.tokens):
            file.write(document.model_dump_json() + "\n")
    shutil.rmtree(inputs.work, ignore_errors=True)
    return inputs.output


def _enough(batches: Iterator[tuple[WrittenText, ...]], tokens: int) -> Iterator[WrittenText]:
    """Yield documents until they have so many tokens."""
    for batch in batches:
        for document in batch:
            yield document
            tokens -= len(document.ids)
            if tokens <= 0:
                return


class _Writer:
    """A parent that writes batches. It is loaded when the first one is missing."""

    def __init__(self, inputs: SampleInputs) -> None:
        self._inputs, self._source = inputs, inputs.source
        self._tokenizer: Any = load_tokenizer(inputs.parent_dir)
        config = load_config(inputs.parent_dir)
        self._positions = int(getattr(config, "max_position_embeddings", POSITIONS))
        named = getattr(config, "eos_token_id", None)
        ends = [self._tokenizer.eos_token_id, *(named if isinstance(named, list | tuple) else [named])]
        self._ends = tuple(sorted({int(token) for token in ends if token is not None}))
        self._prompts = self._beginnings()

    def batches(self) -> Iterator[tuple[WrittenText, ...]]:
        """Yield batch after batch without end, from the files of those that are finished."""
        left = self._source.tokens
        for number in count():
            path = self._inputs.work / f"{number:06d}.json"
            batch = _read(path)
            kept = batch is not None
            if batch is None:
                batch = self._written(number)
                write_sealed(path, _BATCH.dump_json(batch).decode())
            made = sum(len(document.ids) for document in batch)
            documents = float(ROWS * (number + 1))
            self._inputs.progress.advance(max(0, min(made, left)), kept=kept, documents=documents)
            left -= made
            yield batch

    def _written(self, number: int) -> tuple[WrittenText, ...]:
        rows = [self._prompts[(number * ROWS + row) % len(self._prompts)] for row in range(ROWS)]
        source = self._source
        length = min(source.length, self._positions - max(map(len, rows)))
        return sampled_batch(
            self._model,
            self._tokenizer,
            rows,
            length=length,
            ends=self._ends,
            temperature=source.temperature,
            top_k=source.top_k,
            seed=int.from_bytes(hashlib.sha256(f"{source.seed} {number}".encode()).digest()[:7]),
            tick=lambda: self._inputs.progress.advance(0),
        )

    @cached_property
    def _model(self) -> PreTrainedModel:
        directory = self._inputs.parent_dir
        device, dtype = placement(directory)
        if self._source.dtype is not None:
            dtype = DTYPES[self._source.dtype]
        elif device.type == "cpu" and faster_in_bfloat16(device):
            dtype = torch.bfloat16
        needed, room = weights_bytes(directory, dtype), free_bytes(device)
        if needed > SHARE * room:
            given = {"needed": format_quantity(needed, BYTES), "room": format_quantity(room, BYTES)}
            problem = TooLargeToSample(
                self._inputs.span,
                parent=self._source.parent,
                device=device.type,
                needed=given["needed"],
                room=given["room"],
            )
            raise DiagnosticError(problem)
        return load_parent(directory, dtype=dtype, device=device)

    def _beginnings(self) -> list[list[int]]:
        """Return the tokens that documents go on from, in turn."""
        source, span = self._source, self._inputs.span
        if source.prompts is None:
            begin = self._tokenizer.bos_token_id
            begin = self._tokenizer.eos_token_id if begin is None else begin
            if begin is None:
                raise DiagnosticError(NothingToBeginWith(span, parent=source.parent))
            return [[int(begin)]]
        asked = prompts_of_file(self._inputs.base / source.prompts, span)
        return [self._encoded(prompt) for prompt in asked]

    def _encoded(self, prompt: Asked) -> list[int]:
        span = self._inputs.span
        ids = prompt.ids(self._tokenizer, span)
        if len(ids) >= self._positions:
            raise DiagnosticError(prompt.too_long(len(ids), self._positions - 1, span))
        return ids


def _read(path: Path) -> tuple[WrittenText, ...] | None:
    """Return a finished batch; None if it is not there, or damaged."""
    content = read_sealed(path)
    try:
        return None if content is None else _BATCH.validate_json(content)
    except ValidationError:  # another version's
        return None
