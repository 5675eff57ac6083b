"""Costs of every alternative in every scenario: what a search adds up, and how far measured ones are to be trusted."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.base.frozen import Frozen, left_out
from puzzledsl.ir.base import Artefact, Exact


class Cost(Frozen):
    """Cost of one sub-block (or of the fixed part of a model) in one scenario, on each GPU.

    `prefill_ns`: one forward over batch x prompt tokens. `decode_ns`: one decode step of the whole batch, at the mean
    context length of the generation. Sizes in bytes; `kv_cache_bytes` is for the whole batch at full length.
    `prefill_flop`, `decode_flop`: the arithmetic of the same two forwards, over all GPUs together.
    """

    params: int
    weights_bytes: int
    kv_cache_bytes: int
    prefill_ns: int
    decode_ns: int
    prefill_flop: int = 0
    decode_flop: int = 0


class ScenarioCosts(Frozen):
    """One scenario at one batch size.

    A metric is the fixed part plus the sum over layers of the two chosen sub-blocks: `ir.metrics` defines them.
    """

    scenario: str
    batch: int
    prompt: int
    output: int
    fixed: Cost  # embedding, final norm, head; whatever no layer can change
    reserve_bytes: int = 0
    attention: tuple[dict[str, Cost], ...]
    ffn: tuple[dict[str, Cost], ...]
    # pairs[layer]["gqa1/linear"]: attention and FFN measured together. A pair that is listed is the whole cost of that layer,
    # in place of its two sub-blocks; a layer all of whose pairs are listed may have empty sub-block tables.
    pairs: tuple[dict[str, Cost], ...] = ()
    # metrics that the source of these costs does not say (a table without times, say): no search may mention them
    unknown: tuple[str, ...] = ()
    # set where the batch is `auto`: a child runs at this batch only if its cache fits the share `kv_fraction` of what the
    # reserve and its weights leave of this (`ir.metrics.fits`)
    capacity_bytes: int | None = None
    kv_fraction: Exact = Fraction(1)
    # of all GPUs together, where the hardware states them
    usd_per_s: Exact | None = left_out(None)
    watts: Exact | None = left_out(None)


class CellTiming(Frozen):
    """Trust in one scenario's measured costs at one batch.

    Times of the whole parent. Errors are mean absolute errors of sums of costs, as shares, on random whole children. Spreads
    are robust standard deviations of the parent's time between rounds, as shares. `plain_*`: the parent's time as measured /
    its time in plain `generate` - 1, where there is such a time to compare.
    """

    scenario: str
    batch: int
    parent_prefill_ns: int
    parent_decode_ns: int
    prefill_error: float
    decode_error: float
    latency_error: float
    prefill_spread: float
    decode_spread: float
    plain_prefill: float | None = None
    plain_decode: float | None = None


class CostTable(Artefact):
    """`build/costs/SPACE.json`. `scenarios[NAME]` has one entry for each candidate batch, in ascending order.

    Every alternative of the space, and `parent`, is in every layer's dictionary. `provenance`: where figures come from.
    A scenario in `auto` may run at any batch from 1 to the number there: its entries are some of those batches, and
    `costs.any_batch` computes the others from the profile. `timings`: of what `pzl measure` made.
    """

    space: str
    provenance: dict[
        str, str
    ] = {}  # scenario -> "roofline h100_sxm" | "measured on CPU …" | "table costs.csv"
    scenarios: dict[str, tuple[ScenarioCosts, ...]] = {}
    auto: dict[str, int] = {}
    # parameters do not depend on a scenario; used when no scenario is declared
    params_fixed: int
    params_attention: tuple[dict[str, int], ...]
    params_ffn: tuple[dict[str, int], ...]
    timings: tuple[CellTiming, ...] = left_out(())
