"""Speed of a whole model with Transformers' forward and cache: greedy decoding in a plain loop.

Decode steps are timed in a window around the mean context of the generation, prompt + output / 2: the time of a step is linear
in the context, so the mean step is the step at the mean. The cache is that of a real prefill, lengthened by repeating its
entries; no time depends on its values. Transformers' cache appends a token by copying all tokens, which moves three times the
bytes that attention itself reads. On a GPU each layer has room for one more token, and every step writes it to the same place,
as inference engines do, so that a CUDA graph of one step can be replayed.

Shapes: B sequences, S prompt tokens, K key/value heads, N cached tokens, D head_dim.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentEmbedding, ParentHead, stored_apart
from puzzledsl.alternatives.precision import CACHES, PRECISIONS
from puzzledsl.alternatives.weights import Size, state_size
from puzzledsl.base.frozen import Record
from puzzledsl.costs import flops
from puzzledsl.costs.flops import fixed_size, met_weights, sub_block_flop
from puzzledsl.costs.memory import STATE_BYTES
from puzzledsl.ir.nodes import Scenario, Shape
from puzzledsl.measure.stopwatch import Run, stopwatch_for


class Widths(Record):
    """Bytes of a stored weight and of a cached number."""

    weight: Fraction
    cached: Fraction

    @classmethod
    def of(cls, dtype: torch.dtype) -> Self:
        """Return the widths of a model in PyTorch, which stores and caches in one dtype."""
        return cls(Fraction(dtype.itemsize), Fraction(dtype.itemsize))


def sizes_of(shape: Shape, alternative: Alternative, workload: Workload, stored: Widths) -> dict[str, int]:
    """Return an alternative's exact params, bytes and FLOP in one layer, by fields of `Cost`. A window caps the KV cache."""
    size = alternative.size(shape)
    prefill_flop, decode_flop = sub_block_flop(shape, alternative, workload)
    length = workload.prompt + workload.output
    if (window := alternative.alone(shape).attended) is not None:
        length = min(length, window)
    number = stored.cached if alternative.cache is None else CACHES[alternative.cache].bytes
    per_token = 2 * alternative.alone(shape).cached_heads * shape.head_dim * number
    state = state_size(alternative.alone(shape))
    kept = state.conv * stored.cached + state.scan * int(STATE_BYTES)
    return {
        "params": size.params,
        "weights_bytes": bytes_of(size, stored),
        "kv_cache_bytes": round(workload.batch * (length * per_token + kept)),
        "prefill_flop": prefill_flop,
        "decode_flop": decode_flop,
    }


def ends_bytes(shape: Shape, stored: Widths, embedding: ParentEmbedding, head: ParentHead) -> int:
    """Return the bytes of embedding, head and final norm. Tied ends of one type are one matrix."""
    ends = [bytes_of(end.size(shape), stored) for end in (embedding, head)]
    matrices = sum(ends) if stored_apart(embedding, head, tied=shape.tied) else max(ends)
    return matrices + round(fixed_size(shape).vectors * stored.weight)


def bytes_of(size: Size, stored: Widths) -> int:
    """Return the bytes of a sub-block or an end; a quantised one has codes, scales, and weights that stay unquantised."""
    if size.stored is None:
        return round(size.params * stored.weight)
    precision = PRECISIONS[size.stored.dtype]
    codes = size.matrices - size.stored.plain
    scales = size.stored.scales + size.stored.expert_scales
    rest = size.params - codes
    return round(Fraction(precision.bits, 8) * codes + precision.scale_bytes * scales + rest * stored.weight)


def write_in_place(cache: Cache) -> None:
    """Make a filled cache write each next token to one place, the one after its last token. Recurrent layers stay as they are."""
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer) and layer.get_seq_length() and "update" not in layer.__dict__:
            held: Any = layer
            held.update = _InPlace(held)


def emptied(cache: Cache) -> Cache:
    """Empty a cache and return it. A new one would copy constants to the GPU, which is not allowed in a CUDA graph."""
    for layer in cache.layers:
        layer.__dict__.pop("update", None)
    untyped: Any = cache
    untyped.reset()
    return cache


class _InPlace:
    """Replacement of `update` of a cache's layer: a query sees the N tokens that the layer holds, and the new one after them."""

    def __init__(self, layer: Any) -> None:
        self._keys, self._values = _with_room(layer.keys), _with_room(layer.values)
        layer.keys, layer.values = self._keys[:, :, :-1], self._values[:, :, :-1]  # whose lengths are read

    def __call__(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token, [B, K, 1, D]; return keys and values of all, [B, K, N + 1, D]."""
        self._keys[:, :, -1:].copy_(key_states)
        self._values[:, :, -1:].copy_(value_states)
        return self._keys, self._values


def _with_room(states_BKND: Tensor) -> Tensor:
    batch, heads, tokens, dim = states_BKND.shape
    found = states_BKND.new_empty(batch, heads, tokens + 1, dim)
    found[:, :, :tokens].copy_(states_BKND)
    return found


DECODE_WINDOW = 8  # decode steps timed after each prefill
STEP_TOKENS = 10
"""Tokens that a prefill reads in the time of one decode step, which reads all weights for one token."""


def step_work(shape: Shape, batch: int) -> int:
    """Return the work of a decode step: tokens, but at least STEP_TOKENS, times the weights that each is multiplied with."""
    layers, head = met_weights(shape)
    return max(batch, STEP_TOKENS) * (sum(layers) + head)


def timed_work(shape: Shape, workload: Workload) -> int:
    """Return the work of a prefill and a window of decode steps, in tokens times weights as `step_work`."""
    layers, _ = met_weights(shape)
    prefill = workload.batch * workload.prompt * sum(layers)
    return prefill + workload.window * step_work(shape, workload.batch)


LOADING_TOKENS = 500
"""Tokens that a prefill reads in the time in which a model is written for an engine and loaded (SmolLM2 in llama.cpp, 2.5 s)."""


def served_work(shape: Shape, workload: Workload, turns: int, *, prefill: bool) -> int:
    """Return the work of timing a model in an engine beside its parent, in `turns` turns after a warm-up.

    `prefill`: prompts are timed, too. The caches of a batch are filled by reading one sequence, which counts once.
    """
    layers, _ = met_weights(shape)
    tokens = workload.context + prefill * (prefills(turns) + 1) * workload.batch * workload.prompt
    steps = (turns + 1) * workload.window * step_work(shape, workload.batch)
    return (LOADING_TOKENS + 2 * tokens) * sum(layers) + 2 * steps


def prefills(turns: int) -> int:
    """Return how many prefills are timed in `turns` turns of an engine: half as many, since each takes as long as many steps."""
    return -(-turns // 2)


def needs_prefill(scenarios: Iterable[Scenario], workload: Workload) -> bool:
    """Return False if all scenarios of the workload have traffic and a smaller batch, whose prompts are timed for all batches."""
    return any(
        scenario.traffic is None or workload.batch <= min(scenario.batches, default=1)
        for scenario in scenarios
        if (scenario.prompt, scenario.output) == (workload.prompt, workload.output)
    )


class Workload(flops.Workload):
    """A scenario at one batch size: `batch` prompts of `prompt` tokens, `output` new tokens each."""

    @classmethod
    def of(cls, scenario: Scenario, batch: int) -> Self:
        """Return the workload of a scenario at one of its batch sizes."""
        return cls(batch, scenario.prompt, scenario.output)

    @property
    def window(self) -> int:
        """Number of decode steps in a window."""
        return max(1, min(DECODE_WINDOW, self.output))

    @property
    def context(self) -> int:
        """Tokens in the cache before the first step of the window, which is centred on prompt + output / 2."""
        return max(1, self.prompt + self.output // 2 - self.window // 2)


class Forward:
    """The two computations of a model for one workload. `prefill()` fills the cache that `decode_step()` extends."""

    def __init__(self, model: nn.Module, workload: Workload) -> None:
        self.model, self.workload = model, workload
        named = inspect.signature(model.forward).parameters
        self._keyword = "cache" if "cache" in named else "past_key_values"  # as in Transformers 5.20
        vocab: int = model.config.vocab_size  # type: ignore[union-attr, assignment]
        size, generator = (workload.batch, workload.prompt), torch.Generator().manual_seed(0)
        self._ids = torch.randint(vocab, size, generator=generator).to(next(model.parameters()).device)
        self._next = self._ids[:, -1:]
        self._cache: Any = None
        self._on_gpu = self._ids.device.type == "cuda"

    def prefill(self) -> None:
        """Run the prompt with an empty cache; logits of the last position only, as `generate` does."""
        cache = {self._keyword: emptied(self._cache)} if self._on_gpu and self._cache is not None else {}
        output = self.model(input_ids=self._ids, use_cache=True, logits_to_keep=1, **cache)
        self._cache = getattr(output, self._keyword)
        self._next = output.logits[:, -1].argmax(-1, keepdim=True)

    def lengthen(self) -> None:
        """Repeat cache entries until the cache holds `workload.context` tokens. On a GPU, steps then write it in place."""
        for index, layer in enumerate(self._cache.layers):
            if not isinstance(layer, CacheLayerMixin):
                continue  # a state, which does not grow
            held: Any = layer
            missing = self.workload.context - layer.get_seq_length()
            if 0 < missing < self.workload.context:  # a layer without attention holds nothing
                shape = (-1, -1, missing, -1)
                self._cache.update(
                    held.keys[:, :, :1].expand(shape), held.values[:, :, :1].expand(shape), index
                )
        if self._on_gpu:
            write_in_place(self._cache)

    def decode_step(self) -> None:
        """Decode one greedy token for every sequence of the batch."""
        output = self.model(input_ids=self._next, **{self._keyword: self._cache}, use_cache=True)
        self._next = output.logits[:, -1].argmax(-1, keepdim=True)


@dataclass(slots=True)
class Samples:
    """Seconds of each timed prefill and of each timed decode step."""

    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)

    def __add__(self, more: Samples) -> Samples:
        """Return both together."""
        return Samples(self.prefill + more.prefill, self.decode + more.decode)


class WholeTimer:
    """Timer of one model on one workload, one round at a time, so that models can alternate."""

    def __init__(self, model: nn.Module, workload: Workload) -> None:
        self.workload = workload
        self.samples = Samples()
        self._forward = Forward(model, workload)
        self._watch = stopwatch_for(next(model.parameters()).device)
        self._prefill: Run | None = None
        self._decode: Run | None = None

    @torch.inference_mode()
    def round(self, *, keep: bool = True) -> tuple[float, list[float]]:
        """Return the seconds of one prefill, and of each step of a decode window. `keep` False: a warm-up, not in `samples`."""
        self._prefill = self._prefill or self._watch.prepare(self._forward.prefill)
        prefill_s = sum(self._prefill())
        self._forward.lengthen()
        self._decode = self._decode or self._watch.prepare(self._forward.decode_step)
        decode_s = [sum(self._decode()) for _ in range(self.workload.window)]
        if keep:
            self.samples.prefill.append(prefill_s)
            self.samples.decode += decode_s
        return prefill_s, decode_s
