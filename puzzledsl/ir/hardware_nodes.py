"""Meaning of `hardware` and `scenario`: what the child runs on, and its workload."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from puzzledsl.alternatives.precision import CACHES, FULL
from puzzledsl.base import units
from puzzledsl.base.frozen import BY_KIND, Frozen, left_out
from puzzledsl.base.settings import Section, Setting, setting
from puzzledsl.base.units import BYTES, BYTES_PER_S, DOLLARS_PER_S, FLOP_PER_S, POWER, TIME, Dimension
from puzzledsl.ir.base import Declaration, Exact, Where
from puzzledsl.ir.measured_engines import DTYPES, ENGINES, TORCH, engine_words
from puzzledsl.ir.metric_records import STATED

MAX_GPUS = 1024
MAX_BATCH = 2**31
MAX_RUNNING = 256
_PROFILE = "a profile has `memory`, `bandwidth` and `peak { bf16 = … }`"
_TENSOR_PARALLEL = "tensor_parallel_size", "tp", "num_gpus"
_GPUS: dict[str, Any] = {"default": 1, "at_least": 1, "at_most": MAX_GPUS}


def _dtype(doc: str, default: str | None = "bf16", *more: str, **facts: Any) -> Any:
    """Return a setting that takes a number type of DTYPES or `more`. `default` None: the same type as another setting."""
    return setting(doc, default=default, shown="", words=(*DTYPES, *more), noun="dtype", **facts)


def _rate(doc: str, word: str, **facts: Any) -> Any:
    return setting(doc, word=word, unit=BYTES_PER_S, **facts)


def _time(*usual: int) -> dict[str, Any]:
    return {"unit": TIME, "at_least": 0, "default": Fraction(*usual)}


def _stated(doc: str, word: str, unit: Dimension) -> Any:
    """Return an optional setting, such as a price, that gives scenarios one more metric if it is written."""
    return setting(doc, word=word, unit=unit, default=None, at_least=0, left_out=True)


class RooflineHardware(Frozen, kind="roofline"):
    """An analytic profile. Bandwidths in bytes/s, peaks in FLOP/s, times in seconds, sizes in bytes; each GPU's own.

    The defaults are h100_sxm's constants, whose sources std/hardware.pzl names.
    """

    profile: str
    memory_bytes: int = setting("Memory of one GPU.", word="memory", unit=BYTES, more_than=0, write=_PROFILE)
    bandwidth_bytes_per_s: Exact = _rate("Memory bandwidth a GPU.", "bandwidth", more_than=0, write=_PROFILE)
    link_bytes_per_s: Exact = _rate(
        "Bandwidth between two GPUs, one direction.", "link", at_least=0, default=Fraction(0)
    )
    gpus: int = setting("GPUs that share the model (tensor parallel).", elsewhere=_TENSOR_PARALLEL, **_GPUS)
    expert_parallel: int = setting(
        "Groups of GPUs that share out experts; a group splits its own by channels.", left_out=True, **_GPUS
    )
    flop_per_s: dict[str, Exact]  # dense peak by dtype: bf16, fp8, fp32 …
    dtype: str = _dtype("Number type of the stored weights.")
    expert_dtype: str | None = _dtype(
        "Number type of a mixture's experts; as `dtype` unless said.", None, word="experts", left_out=True
    )
    activation_dtype: str | None = _dtype(
        "Number type of matrix products; as `dtype` unless said.", None, word="activations"
    )
    kv_dtype: str = _dtype(
        "Number type of stored keys and values; an attention's own `kv_cache` comes first.",
        "bf16",
        *(name for name in CACHES if name not in DTYPES),
        word="kv_cache",
        elsewhere=("kv_dtype", "kv_cache_dtype"),
    )
    embedding_dtype: str = _dtype("Number type of the stored embedding, norms and biases.", word="embedding")
    head_dtype: str | None = _dtype(
        "Number type of the head, stored and multiplied; as `embedding` unless said.", None, word="head"
    )
    efficiency_compute: Exact
    efficiency_experts: Exact | None = left_out(
        None
    )  # of a mixture's experts, whose matrices are small (None: as other matrices)
    efficiency_bandwidth: Exact
    efficiency_attention: Exact
    efficiency_link: Exact
    overhead_s: Exact = setting(
        "Time a sub-block takes on top, each forward pass.", word="overhead", **_time(5975, 10**8)
    )
    link_latency_s: Exact = setting(
        "Time a step of an all-reduce takes on top.", word="link_latency", **_time(9686, 10**9)
    )
    reserve_bytes: int = setting(
        "Memory for the runtime and activations.", word="reserve", unit=BYTES, at_least=0, default=3 * 10**9
    )
    kv_fraction: Exact = setting(
        "Share of free memory that the KV cache may take.", default=Fraction(9, 10), more_than=0, at_most=1
    )
    kv_policy: Literal["full", "mean"] = setting(
        "The sequences that the KV cache must hold: each at `full` length, or at its `mean` length.",
        default="full",
        noun="KV policy",
    )
    page_tokens: int = setting("Tokens in a KV page.", word="page", default=64, at_least=1, at_most=2**20)
    max_batch: int = setting("Largest batch the runtime takes.", default=2048, at_least=1, at_most=MAX_BATCH)
    usd_per_s: Exact | None = _stated(
        "Price of one GPU: `2.5 USD/h`. Gives its scenarios `cost_per_mtok`.", "price", DOLLARS_PER_S
    )
    watts: Exact | None = _stated(
        "Power of one GPU at work: `700W`. Gives its scenarios `joules_per_tok`.", "power", POWER
    )
    engine: str = setting("The runtime whose figures the constants were fitted to.", default="")
    calibration: str = setting("The measurements that the constants were fitted to.", default="")
    calibration_error: Exact | None = setting(
        "Mean relative error of the calibration.", word="error", default=None, at_least=0, at_most=1
    )


_EFFICIENCY: Mapping[str, tuple[str, Fraction | None]] = {
    "compute": ("Share of the peak that matrix products reach.", Fraction("0.5368")),
    "experts": ("Share of the peak that a mixture's experts reach; as `compute` unless said.", None),
    "bandwidth": ("Share of the memory bandwidth that is reached.", Fraction("0.95")),
    "attention": ("Share of the peak that attention scores reach.", Fraction("0.5993")),
    "link": ("Share of the link's bandwidth that is reached.", Fraction("0.95")),
}
PROFILE_SECTIONS: Mapping[str, Section] = {
    "peak": Section(
        "Dense FLOP/s by dtype.",
        {d: Setting(f"Dense FLOP/s in {d}.", type=Fraction, unit=FLOP_PER_S, more_than=0) for d in DTYPES},
    ),
    "efficiency": Section(
        "Shares of the peaks that are reached.",
        {
            name: Setting(doc, type=Fraction, value=usual, more_than=0, at_most=1)
            for name, (doc, usual) in _EFFICIENCY.items()
        },
    ),
}
"""Groups of a profile's figures. The shares of the peaks are h100_sxm's unless said."""


class MeasuredHardware(Frozen, kind="measured"):
    """Costs come from `pzl measure` on this machine. They are measured in an engine, one of `measured_engines`."""

    engine: str = setting(
        "What runs the models: PyTorch, or an engine that serves exported ones.",
        words=tuple(ENGINES),
        noun="engine",
        default=TORCH,
        left_out=True,
    )
    device: str = setting("The device.", words=engine_words("devices"), noun="device", default="cpu")
    dtype: str = setting(
        "Number type of the weights. Each engine has its own.",
        words=engine_words("dtypes"),
        noun="dtype of a measurement",
        default="fp32",
        shown=", ".join(f"`{e.dtype}` ({e.title})" for e in ENGINES.values()),
    )
    kv_dtype: str = setting(
        "Type that the engine stores all keys and values in; `full`: its usual one.",
        word="kv_cache",
        words=(FULL, *CACHES),
        noun="type of a KV cache",
        default=FULL,
        left_out=True,
    )
    threads: int | None = setting(
        "Processor threads of the engine; not for PyTorch.",
        default=None,
        at_least=1,
        at_most=4096,
        shown="every core",
        left_out=True,
    )
    gpus: int = setting("Devices that share the model.", **_GPUS)
    memory_bytes: int | None = setting(
        "Memory of a device: gives `h.memory` a value.", word="memory", unit=BYTES, default=None, at_least=1
    )
    usd_per_s: Exact | None = _stated(
        "Price of this machine: `0.2 USD/h`. Gives its scenarios `cost_per_mtok`.", "price", DOLLARS_PER_S
    )
    watts: Exact | None = _stated(
        "Power of this machine at work: `65W`. Gives its scenarios `joules_per_tok`.", "power", POWER
    )


def running_costs(hardware: RooflineHardware | MeasuredHardware) -> dict[str, Any]:
    """Return `usd_per_s` and `watts` of all GPUs together; None for what is not stated."""
    stated = ((name, getattr(hardware, name)) for name in STATED.values())
    return {name: None if amount is None else hardware.gpus * amount for name, amount in stated}


class TableHardware(Frozen, kind="table"):
    """Figures made elsewhere: a table in long form."""

    example: ClassVar[str] = '("costs.csv")'
    path: str = setting("A CSV file, relative to this file.", positional=True)


class Hardware(Declaration):
    """Hardware that the child must run on."""

    spec: Annotated[RooflineHardware | MeasuredHardware | TableHardware, BY_KIND]


class Traffic(Frozen):
    """Requests that come at random (Poisson), and an engine that starts each as soon as fewer than `at_most` run.

    `requests`: prompt and output tokens of each request of `lengths`, whose means the scenario has. `where`: of the rate.
    """

    rate: Exact = setting("Requests a second: `2 req/s`.", unit=units.REQ_PER_S, more_than=0, positional=True)
    lengths: str | None = setting(
        'JSON lines, each with the tokens of a request: `{"prompt": 256, "output": 128}`.', default=None
    )
    at_most: int = setting("Sequences that run at once at most.", default=32, at_least=1, at_most=MAX_RUNNING)
    requests: tuple[tuple[int, int], ...] = left_out(())
    where: Where


class Scenario(Declaration):
    """A workload on a hardware: `batches` has one entry, several (a decision), or none (`auto`).

    Under `traffic`, they are numbers of sequences whose steps are timed where costs are measured; others lie between.
    """

    hardware: str
    batches: tuple[int, ...] = setting(
        "Sequences: a number, `64 | 128` (chosen), `auto`.", word="batch", words=("auto",), positional=True
    )
    prompt: int = setting(
        "Prompt and output tokens of a sequence: `128 -> 1024`.", word="tokens", wide=True, positional=True
    )
    output: int
    traffic: Traffic | None = left_out(None)
