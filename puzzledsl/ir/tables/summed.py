"""Costs and scores of every alternative: what a search adds up, and how far measured ones are to be trusted."""

from dataclasses import field
from fractions import Fraction
from typing import Literal

from puzzledsl.base.frozen import Frozen, left_out
from puzzledsl.ir.base import Artefact, Exact
from puzzledsl.ir.metric_records import Load


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
    """One scenario at one batch: metrics are the fixed part plus sums over layers of chosen sub-blocks (`costs.metrics`)."""

    scenario: str
    batch: int
    prompt: int
    output: int
    fixed: Cost  # embedding, final norm, head; whatever nothing can change
    # ends["parent/parent@q4_0"]: embedding, final norm and head by the types of both, where a space gives them a choice;
    # `fixed` is then nothing
    ends: dict[str, Cost] = left_out({})
    reserve_bytes: int = 0
    attention: tuple[dict[str, Cost], ...]
    ffn: tuple[dict[str, Cost], ...]
    # pairs[layer]["gqa1/linear"]: attention and FFN measured together. A pair that is listed is the whole cost of that layer,
    # in place of its two sub-blocks; a layer all of whose pairs are listed may have empty sub-block tables.
    pairs: tuple[dict[str, Cost], ...] = ()
    # metrics that the source of these costs does not say (a table without times, say): no search may mention them
    unknown: tuple[str, ...] = ()
    # set where the batch is `auto`: a child runs at this batch only if its cache fits the share `kv_fraction` of what the
    # reserve and its weights leave of this (`costs.metrics.fits`)
    capacity_bytes: int | None = None
    kv_fraction: Exact = Fraction(1)
    # of all GPUs together, where the hardware states them
    usd_per_s: Exact | None = left_out(None)
    watts: Exact | None = left_out(None)
    # under traffic, at `batch` running sequences: requests a second, and the number of sequences that figures are at. A cost's
    # prefill is then of one prompt, and its cache of all sequences that may run (`costs.metrics`)
    rate: Exact | None = left_out(None)
    load: Load = left_out("")

    @property
    def is_own(self) -> bool:
        """True if the batch depends on the child: the largest that fits (`auto`), or the least that sustains the traffic."""
        return self.capacity_bytes is not None or self.rate is not None


class CellTiming(Frozen):
    """Trust in one scenario's measured costs at one batch.

    Times of the whole parent. Errors are mean absolute errors of sums of costs, as shares, on random whole children. Spreads
    are robust standard deviations of the parent's time between rounds, as shares.
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


class CostTable(Artefact):
    """`build/costs/SPACE.json`. `scenarios[NAME]` has one entry for each candidate batch, in ascending order.

    A layer's dictionaries have its alternatives in the space, and `parent`. `provenance`: where figures come from.
    A scenario in `auto` may run at any batch from 1 to the number there: its entries are some of those batches, and
    `costs.roofline` computes the others from the profile. `timings`: of what `pzl measure` made.
    """

    space: str
    # scenario -> "roofline h100_sxm" | "measured on CPU …" | "table costs.csv"
    provenance: dict[str, str] = {}
    scenarios: dict[str, tuple[ScenarioCosts, ...]] = {}
    auto: dict[str, int] = {}
    # parameters do not depend on a scenario; used when no scenario is declared
    params_fixed: int
    params_attention: tuple[dict[str, int], ...]
    params_ffn: tuple[dict[str, int], ...]
    timings: tuple[CellTiming, ...] = left_out(())


class RunScore(Frozen):
    """The score of dropping `length` consecutive layers, `first` and those after it, all at once: in place of their sum."""

    first: int = field(metadata={"ge": 0})
    length: int = field(metadata={"ge": 2})
    value: float


class ScoreTable(Artefact):
    """`build/scores/NAME.json`: how much worse the parent gets with one replacement. `parent` is 0 (or absent, meaning 0).

    `pairs[layer]["gqa1/linear"]`: attention/ffn measured together, where `unit` is "block"; then it is the whole score of that
    layer and the sub-block tables are empty. A child's score is `offset`, plus its layers' scores, plus those of its `embedding`
    and `head`. Consecutive layers without any sub-block left count by the score of their run, if `runs` has it, in place of their
    own. Each entry is relative to the parent's sub-block in its place.
    """

    score: str
    metric: str
    samples: int
    unit: Literal["subblock", "block"] = "subblock"
    attention: tuple[dict[str, float], ...] = ()
    ffn: tuple[dict[str, float], ...] = ()
    embedding: dict[str, float] = left_out({})
    head: dict[str, float] = left_out({})
    pairs: tuple[dict[str, float], ...] = ()
    offset: float = 0.0
    runs: tuple[RunScore, ...] = ()
