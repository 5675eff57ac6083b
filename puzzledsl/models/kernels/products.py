"""Faster or repeatable forms of PyTorch's matrix products and attention, with the same results; malloc that keeps memory.

- float32 on a CPU: inside `with fast_products(device):` oneDNN computes every large `F.linear`, forward and for the gradient of
  its input. One core of a Zen 4 reaches 103-110 GFLOP/s with oneDNN and 85-100 with MKL, PyTorch's default. The operator is that
  of `torch.compile` for frozen models, checked here to agree with `F.linear`. The choice depends on shapes and machine, never on
  time or threads. A packed weight is put into oneDNN's own order once: 5 % faster, same bits, worth it over many uses.
- Products of 16-bit matrices with float32 results, for logits and sums that bfloat16 would round: free on CUDA's tensor cores.
- Causal attention on a CPU without gradients: PyTorch's kernel takes as long with `is_causal` as without it. Here up to eight
  blocks of queries attend only to the keys up to their last query: 9/16 of the products, three quarters of the time.
- SDPA attention with grouped heads in float32: no fast kernel of `F.scaled_dot_product_attention` applies on CUDA, and the one
  that is left holds a score for every pair of positions; with its key/value heads repeated, the memory-efficient kernel does it.
- A frozen head multiplies a slice of hidden states as one matrix. With the strides of `x[:, -1:]`, `torch.matmul` copies the
  weight for each sequence (`should_fold` in LinearAlgebra.cpp). A CPU copies 896 x 151,936 in 1 s and multiplies by it in 30 ms.
- SiLU-gated FFNs have the activation and the product fused into the matrix products (`gated`), without gradients.
- glibc's malloc is set to keep memory that a training step frees: getting it back zeroed from the system took 1/13 of a BLD step.
- On CUDA, `index_add_` and the backward pass of attention add in any order; slower forms give every run the same bits.

Shapes: K inputs, N outputs, H hidden; in attention B sequences, N heads, S positions, D head_dim, Q queries, K keys.
"""

import ctypes
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.activations import SiLUActivation
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from puzzledsl.models.families.access import shape_of
from puzzledsl.models.machine import room_bytes
from puzzledsl.models.transformers_private import linear_pointwise, packed_weight

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_BYTES = 32 << 20
"""M_MMAP_THRESHOLD: allocations below this come from the heap; larger ones get their own mapping, unmapped when freed."""
KEPT_BYTES = 256 << 20
"""M_TRIM_THRESHOLD: free bytes at the top of the heap that glibc keeps instead of returning them to the system."""
ROOMS = 8
"""Memory is kept only if this many times `KEPT_BYTES` can still be allocated; with less, it may be missed elsewhere."""


@cache
def keep_freed_memory() -> bool:
    """Set both thresholds of glibc's malloc. Return False, with nothing changed, if memory is short or libc is not glibc."""
    if room_bytes() < ROOMS * KEPT_BYTES:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {M_MMAP_THRESHOLD: LARGEST_BYTES, M_TRIM_THRESHOLD: KEPT_BYTES}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())


def return_freed_memory() -> None:
    """Give freed memory between allocations in use back to the system; do nothing if libc is not glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Inside the context, CUDA operators that can add in a fixed order do so. On a CPU, they do so anyway."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS first runs
    fill: Any = torch.utils.deterministic  # has a property for a function, which type checkers do not see
    mode, filled = torch.get_deterministic_debug_mode(), fill.fill_uninitialized_memory
    torch.set_deterministic_debug_mode(max(mode, 1))
    fill.fill_uninitialized_memory = False  # nothing here reads memory before it is written
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        fill.fill_uninitialized_memory = filled


HALVES = (torch.bfloat16, torch.float16)


def product(a_NK: Tensor, b_KM: Tensor) -> Tensor:
    """Return a @ b in float32, without gradients for 16-bit inputs on CUDA. On a CPU, it is the product of float32 copies."""
    half = a_NK.dtype == b_KM.dtype and a_NK.dtype in HALVES
    if half and a_NK.device.type == "cuda" and _has_wide_results():
        mm: Any = torch.mm  # its types lack `out_dtype`
        return cast(Tensor, mm(a_NK, b_KM, out_dtype=torch.float32))
    return a_NK.float() @ b_KM.float()


def self_product(x_TP: Tensor) -> Tensor:
    """Return x' x in float32, exactly symmetric."""
    found = product(x_TP.T, x_TP)
    return (found + found.T) / 2  # float32 sums are not quite symmetric


@cache
def _has_wide_results() -> bool:
    """True if this PyTorch's `torch.mm` takes `out_dtype` on CUDA."""
    mm: Any = torch.mm
    one = torch.ones(16, 16, dtype=torch.bfloat16, device="cuda")
    try:
        return bool(mm(one, one, out_dtype=torch.float32).dtype == torch.float32)
    except torch.OutOfMemoryError:  # says nothing about the operator
        raise
    except (RuntimeError, TypeError, NotImplementedError):
        return False


SMALLEST_BLOCK, BLOCKS = 64, 8  # the least number of queries in a block, and the greatest number of blocks


def is_causal_alone(query: Tensor, key: Tensor, value: Tensor, **others: Any) -> bool:
    """True if `causal_attention` can replace this call of `F.scaled_dot_product_attention` and is faster.

    The call must be causal without another mask, dropout or gradients, in float32 on a CPU, with as many keys as queries.
    """
    return (
        others.get("attn_mask") is None
        and bool(others.get("is_causal"))
        and not others.get("dropout_p")
        and not torch.is_grad_enabled()
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (query, key, value))
        and query.shape[-2] == key.shape[-2] > SMALLEST_BLOCK
    )


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None, enable_gqa: bool = False
) -> Tensor:
    """Return what `F.scaled_dot_product_attention(…, is_causal=True)` returns, [B, N, S, D], up to rounding."""
    positions = query.shape[-2]
    size = max(SMALLEST_BLOCK, -(-positions // BLOCKS))
    blocks = []
    for start in range(0, positions, size):
        end = min(start + size, positions)
        seen = (query[..., start:end, :], key[..., :end, :], value[..., :end, :], _mask(start, end))
        blocks.append(F.scaled_dot_product_attention(*seen, scale=scale, enable_gqa=enable_gqa))
    return torch.cat(blocks, -2)


@lru_cache(maxsize=64)
def _mask(start: int, end: int) -> Tensor:
    """Additive causal mask [Q, K] of queries `start` to `end - 1` over keys 0 to `end - 1`: 0 where visible, -inf elsewhere."""
    return torch.full((end - start, end), float("-inf")).triu(start + 1)


SMALLEST = 1 << 22
"""Products of fewer multiplications stay PyTorch's: oneDNN has more overhead per call, and a millisecond for each new shape."""
PACKED_SHARE = 0.25  # share of free memory that packed copies of weights may take
TYPICAL_ROWS = 512
"""Number of rows of the input for which a weight's packed order is optimised; results are right for any number."""
_OPERATOR_IS_MISSING = (AttributeError, NotImplementedError, RuntimeError, TypeError)
"""Exceptions that PyTorch raises when an operator does not exist or takes other arguments."""


class PackedWeights:
    """Packed copies of frozen weights, looked up by the identity of the original tensor."""

    def __init__(self, weights: Iterable[Tensor] = ()) -> None:
        """Pack all large frozen float32 weights, or none if memory is short or oneDNN is not used here."""
        chosen = [weight for weight in weights if _may_be_packed(weight)]
        needed = sum(weight.nbytes for weight in chosen)
        if not chosen or not has_fast_products() or needed > PACKED_SHARE * room_bytes():
            chosen = []
        self._held = {id(weight): (weight, _packed(weight)) for weight in chosen}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, weight_NK: Tensor) -> Tensor:
        """Return the packed copy of a weight, or the weight itself if it is not packed."""
        held = self._held.get(id(weight_NK))
        return weight_NK if held is None else held[1]


NOT_PACKED = PackedWeights()


@contextmanager
def fast_products(device: torch.device, packed: PackedWeights = NOT_PACKED) -> Iterator[None]:
    """Inside the context, this thread's large products and causal attention run faster on a CPU with AVX-512.

    `F.linear` runs as `linear`, with the copies of weights in `packed`, and causal attention as `causal_attention` where that
    can replace it (`is_causal_alone`). On a GPU, or where `has_fast_products` is false, nothing changes.
    """
    if device.type != "cpu" or not has_fast_products():
        yield
        return
    with _FastProducts(packed):
        yield


def linear(
    x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None, packed: PackedWeights = NOT_PACKED
) -> Tensor:
    """Compute `F.linear`, [..., K] -> [..., N], by oneDNN where that is faster. Differentiable once."""
    if not _is_faster(x, weight_NK, bias_N):
        return F.linear(x, weight_NK, bias_N)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight_NK, bias_N)):
        return cast(Tensor, cast(Any, _Linear).apply(x, weight_NK, bias_N))  # torch has no types for it
    return _product(x, packed.of(weight_NK), bias_N)


@cache
def has_fast_products() -> bool:
    """Return True on a CPU with AVX-512, where oneDNN was measured faster, if its operator exists and agrees with `F.linear`."""
    backends: Any = torch.backends  # not typed
    if not backends.mkldnn.is_available() or backends.cpu.get_cpu_capability() != "AVX512":
        return False
    x, weight_NK = (torch.arange(rows * 96.0).view(rows, 96).sin() for rows in (64, 80))
    bias_N, back = weight_NK[:, 0].contiguous(), torch.arange(64 * 80.0).view(64, 80).cos()
    with torch.autocast("cpu", enabled=False):  # the caller's autocast does not count
        try:
            packed = _product(x, _packed(weight_NK), bias_N)
            found = packed, _product(x, weight_NK), _product(back, weight_NK.T)
        except _OPERATOR_IS_MISSING:
            return False
        return _agree(found, (F.linear(x, weight_NK, bias_N), F.linear(x, weight_NK), back @ weight_NK))


def _agree(found: Iterable[Tensor], expected: Iterable[Tensor]) -> bool:
    return all(torch.allclose(f, e, rtol=1e-4, atol=1e-4) for f, e in zip(found, expected, strict=True))


def gated(x: Tensor, gate: nn.Linear, up: nn.Linear, packed: PackedWeights = NOT_PACKED) -> Tensor:
    """Return silu(gate(x)) * up(x), [..., K] -> [..., N], fused into the products where oneDNN is faster, without gradients."""
    fused = has_fused_products() and not torch.is_grad_enabled()
    if not fused or not all(_is_faster(x, m.weight, m.bias) for m in (gate, up)):
        return F.silu(linear(x, gate.weight, gate.bias, packed)) * linear(x, up.weight, up.bias, packed)
    gate_F = linear_pointwise(x, packed.of(gate.weight), gate.bias, "swish")
    return _product_times(x, gate_F, packed.of(up.weight), up.bias)


@cache
def has_fused_products() -> bool:
    """True if there are fast products and their fused forms (SiLU, multiplication) agree with PyTorch's own operations."""
    if not has_fast_products():
        return False
    x, weight_NK = (torch.arange(rows * 96.0).view(rows, 96).sin() for rows in (64, 80))
    bias_N = weight_NK[:, 0].contiguous()
    plain = F.linear(x, weight_NK, bias_N)
    try:
        activated = linear_pointwise(x, _packed(weight_NK), bias_N, "swish")
        multiplied = _product_times(x, activated, weight_NK, bias_N)
    except _OPERATOR_IS_MISSING:
        return False
    return _agree((activated, multiplied), (F.silu(plain), F.silu(plain) * plain))


def _is_faster(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> bool:
    tensors = (x, weight_NK) if bias_N is None else (x, weight_NK, bias_N)
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and weight_NK.ndim == 2
        and math.prod(x.shape) * weight_NK.shape[0] >= SMALLEST
        and not torch.is_autocast_enabled("cpu")
        and has_fast_products()
    )


def _product(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    return linear_pointwise(x, weight_NK, bias_N, "none")


def _product_times(x: Tensor, factor: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    return linear_pointwise(x, weight_NK, bias_N, "mul", factor)


def _packed(weight_NK: Tensor) -> Tensor:
    return packed_weight(weight_NK, TYPICAL_ROWS)


def _may_be_packed(weight: Tensor) -> bool:
    large, frozen = weight.ndim == 2 and weight.numel() * TYPICAL_ROWS >= SMALLEST, not weight.requires_grad
    return large and frozen and weight.dtype == torch.float32 and weight.device.type == "cpu"


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_NK)
        return _product(x, weight_NK, bias_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight_NK = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        flat = gradient.flatten(0, -2)
        return (
            _product(gradient, weight_NK.T) if to_x else None,
            flat.T @ x.flatten(0, -2) if to_weight else None,
            flat.sum(0) if to_bias else None,
        )


class _FastProducts(TorchFunctionMode):
    def __init__(self, packed: PackedWeights) -> None:
        super().__init__()
        self._packed = packed

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and not kwargs:
            x, weight_NK, bias_N = (*args, None)[:3]
            return linear(x, weight_NK, bias_N, self._packed)
        if func is F.scaled_dot_product_attention and len(args) == 3 and is_causal_alone(*args, **kwargs):
            known = {name: kwargs[name] for name in ("scale", "enable_gqa") if name in kwargs}
            return causal_attention(*args, **known)
        return func(*args, **kwargs)


class NothingKept(Cache):
    """A KV cache that is always empty: attention sees the keys and values of its own forward pass alone."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values as they came."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of cached tokens."""
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the place of the first query."""
        return 0

    def get_mask_sizes(self, query_length: int | Tensor, layer_idx: int) -> tuple[int, int]:
        """Return the number of keys and the place of the first, 0. Before 5.3, transformers passed the queries' places."""
        return query_length if isinstance(query_length, int) else len(query_length), 0


def whole_rows(model: PreTrainedModel) -> dict[str, Any]:
    """Return arguments by which a base model's `forward` takes each row as one sequence; empty with state or linear mixers."""
    if any(own.mixer not in ("attention", "none") for own in shape_of(model.config).each):
        return {}
    named = inspect.signature(model.base_model.forward).parameters
    return {"cache" if "cache" in named else "past_key_values": NothingKept()}


FAST_SDPA = "puzzledsl_sdpa"
"""`attn_implementation` of the models that we load. Transformers' own names keep their meaning."""


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Return what transformers' `sdpa` returns, with key/value heads repeated where grouped ones are slow."""
    groups = getattr(module, "num_key_value_groups", 1)
    on_gpu = key.device.type == "cuda" and key.dtype == torch.float32
    if groups > 1 and attention_mask is None and on_gpu and not torch.is_autocast_enabled("cuda"):
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        module = SimpleNamespace(is_causal=getattr(module, "is_causal", True))  # one without groups
    found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return found


AttentionInterface.register(FAST_SDPA, attention)
AttentionMaskInterface.register(FAST_SDPA, sdpa_mask)


def folded(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook of a head: return its arguments with the states [B, S, H] copied contiguously; None: no copy is needed.

    States need none if they are one matrix already. Logits of a slice then have the bits that a model with gradients gives.
    """
    states_BSH: Tensor = args[0]
    size, stride = states_BSH.shape, states_BSH.stride()
    if all(stride[i] == stride[i + 1] * size[i + 1] for i in range(len(size) - 2)):
        return None
    copied_BSH = states_BSH.new_empty(size)  # `contiguous()` returns a slice of one position as it is
    return (copied_BSH.copy_(states_BSH), *args[1:])


_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@contextmanager
def fused_ffns(ffns: Iterable[nn.Module], packed: PackedWeights) -> Iterator[None]:
    """Inside the context, run the SiLU-gated ones of `ffns` fused, with the weights of `packed`. Other FFNs are unchanged."""
    changed = [ffn for ffn in ffns if _is_gated_by_silu(ffn)]
    for ffn in changed:
        held: Any = ffn
        held.forward = partial(_fused_forward, ffn, packed)
    try:
        yield
    finally:
        for ffn in changed:
            del ffn.__dict__["forward"]  # uncovers the forward of the class


def _fused_forward(ffn: Any, packed: PackedWeights, x: Tensor) -> Tensor:
    down: nn.Linear = ffn.down_proj
    return linear(gated(x, ffn.gate_proj, ffn.up_proj, packed), down.weight, down.bias, packed)


def _is_gated_by_silu(ffn: nn.Module) -> bool:
    children = dict(ffn.named_children())
    return (
        set(children) == {*_PROJECTIONS, "act_fn"}
        and all(type(children[name]) is nn.Linear for name in _PROJECTIONS)
        and isinstance(children["act_fn"], nn.SiLU | SiLUActivation)
    )
