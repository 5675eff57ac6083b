"""`hardware` and `scenario`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.stage_errors import SeveralGpus
from puzzledsl.base.units import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    DOLLARS_PER_S,
    FLOP_PER_S,
    POWER,
    TIME,
    Dimension,
    format_quantity,
)
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    body_of,
    call_of,
    check_parts,
    declaration,
    located,
    section_of,
    target,
    where,
)
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.engine_errors import EngineLacksType, NotOfPyTorch
from puzzledsl.checker.diagnostics.name_errors import Misplaced
from puzzledsl.checker.expressions.coercions import as_whole
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed, Poison, Symbol
from puzzledsl.ir import nodes
from puzzledsl.language.engines import ENGINES, TORCH, Engine
from puzzledsl.language.kinds import MAX_DECODE_HEADS, PROFILE
from puzzledsl.language.model import Call
from puzzledsl.syntax import tree

CHANGES = Call("A profile with some settings changed.", PROFILE)
MAX_GPUS = 1024
MAX_THREADS = 4096
MAX_BATCH = 2**31

# Defaults for a profile that gives none: h100_sxm's constants, whose sources std/hardware.pzl names.
FITTED_EFFICIENCY = {
    "compute": Fraction("0.5368"),
    "bandwidth": Fraction("0.95"),
    "attention": Fraction("0.5993"),
    "link": Fraction("0.95"),
}
FITTED_OVERHEAD_S = Fraction(5975, 10**8)
FITTED_LINK_LATENCY_S = Fraction(9686, 10**9)
DEFAULT_RESERVE_BYTES = 3 * 10**9
DEFAULT_KV_FRACTION = Fraction(9, 10)
DEFAULT_PAGE_TOKENS = 64
DEFAULT_MAX_BATCH = 2048


def lower_hardware(ctx: Context, symbol: Symbol) -> nodes.Hardware | None:
    """`hardware h = PROFILE(…)`, `measured(…)`, `table(…)`, a literal block, or `hardware h of g { … }`."""
    decl = declaration(symbol)
    spec: nodes.RooflineHardware | nodes.MeasuredHardware | nodes.TableHardware | None
    if decl.value is None:
        base = target(ctx, symbol) if decl.target is not None else None
        if decl.target is not None and base is None:
            return None
        check_parts(ctx, symbol, "allowed", "needed" if base is None else "allowed")
        spec = _changed(ctx, symbol, base, None) if decl.body is not None or base is not None else None
    else:
        call = call_of(ctx, symbol)
        if call is None:
            return None
        spec = _from_call(ctx, symbol, call)
    if spec is None:
        return None
    return nodes.Hardware(name=ctx.name_of(symbol), spec=spec, doc=decl.doc, where=where(ctx, symbol))


def _from_call(
    ctx: Context, symbol: Symbol, call: Constructed
) -> nodes.RooflineHardware | nodes.MeasuredHardware | nodes.TableHardware | None:
    if call.base is not None:
        return _changed(ctx, symbol, call.base, call)
    check_parts(ctx, symbol, "needed", "none")
    settings = arguments_of(ctx, symbol, call)
    if call.name == "table":
        settings.need("path", help='write `table("costs.csv")`')
        path = settings.text("path")
        return None if settings.failed else nodes.TableHardware(path=path)
    return lower_measured(ctx, symbol, settings)


def lower_measured(ctx: Context, symbol: Symbol, settings: Settings) -> nodes.MeasuredHardware | None:
    """`measured(engine: llama_cpp, dtype: q8_0, threads: 4)`."""
    memory = settings.quantity("memory", BYTES, Fraction(0), Fraction(1)) if settings.has("memory") else None
    engine = ENGINES[settings.word("engine", TORCH)]
    spec = nodes.MeasuredHardware(
        device=settings.word("device", "cpu"),
        dtype=settings.word("dtype", engine.dtype),
        gpus=settings.whole("gpus", 1, 1, MAX_GPUS),
        memory_bytes=None if memory is None else int(memory),
        engine=engine.name,
        usd_per_s=stated(settings, "price", DOLLARS_PER_S),
        watts=stated(settings, "power", POWER),
        threads=settings.whole("threads", 1, 1, MAX_THREADS) if settings.has("threads") else None,
    )
    if settings.failed:
        return None
    name, problems = ctx.name_of(symbol), list[Diagnostic]()
    if spec.gpus > 1:
        problems.append(SeveralGpus(settings.place("gpus"), name=name, gpus=spec.gpus))
    for key, value, known in (
        ("dtype", spec.dtype, tuple(engine.weights)),
        ("device", spec.device, engine.devices),
    ):
        if value not in known:
            problems.append(_lacks(settings, engine, key, value, known))
    if spec.threads is not None and engine.name == TORCH:
        problems.append(NotOfPyTorch(settings.place("threads"), name=name))
    for problem in problems:
        ctx.report(problem)
    return None if problems else spec


def stated(settings: Settings, key: str, dimension: Dimension) -> Fraction | None:
    """Return a price or a power where it is stated."""
    return settings.quantity(key, dimension, Fraction(0), Fraction(0)) if settings.has(key) else None


def _lacks(
    settings: Settings, engine: Engine, key: str, value: str, known: tuple[str, ...]
) -> EngineLacksType:
    same = {"fp32": "f32", "fp16": "f16", "f32": "fp32", "f16": "fp16"}.get(value)
    help = f"it has {', '.join(f'`{word}`' for word in known)}"
    if same in known:
        help = f"it calls it `{same}`: write `{key}: {same}`"
    return EngineLacksType(settings.place(key), engine=engine.title, key=key, value=value, help=help)


# ---------------------------------------------------------------- analytic profiles


def _changed(
    ctx: Context, symbol: Symbol, base: Symbol | None, call: Constructed | None
) -> nodes.RooflineHardware | nodes.MeasuredHardware | nodes.TableHardware | None:
    """Read a profile derived from `base`: the call's arguments and the body's settings override it."""
    decl = declaration(symbol)
    old: nodes.RooflineHardware | None = None
    below = ctx.lower(base, nodes.Hardware) if base is not None else None
    if base is not None and below is not None:
        if not isinstance(below.spec, nodes.RooflineHardware):
            if not (call is not None and call.arguments) and not decl.body:
                return below.spec
            place = call.span if call is not None else symbol.span
            help = "only a profile's figures can be changed; measured costs and tables stand as they are"
            ctx.report(Misplaced(place, what="a change", where=f"hardware `{base.name}`", help=help))
            return None
        old = below.spec
    settings, sections = body_of(ctx, symbol)
    if call is not None:
        arguments = from_call(ctx, call, CHANGES)
        settings.failed |= arguments.failed
        settings.entries = {**arguments.entries, **settings.entries}
    settings.failed |= base is not None and below is None  # whose figures are not known; these are checked
    if base is None:
        settings.need(
            "memory", "bandwidth", help="a profile has `memory`, `bandwidth` and `peak { bf16 = … }`"
        )
        if "peak" not in sections:
            settings.need("peak", help="write `peak { bf16 = 989TFLOP/s }`")
    return _Profile(ctx, symbol, settings, old).build(sections)


@dataclass(frozen=True, slots=True)
class _Dtypes:
    """Number types of a profile: weights, experts, matrix products, KV cache, embedding, head."""

    weights: str
    experts: str | None
    activations: str | None
    kv: str
    embedding: str
    head: str | None


class _Profile:
    """Reader of one profile's figures. Each is checked against what is physically possible."""

    def __init__(
        self, ctx: Context, symbol: Symbol, settings: Settings, old: nodes.RooflineHardware | None
    ) -> None:
        self.ctx, self.symbol, self.settings, self.old = ctx, symbol, settings, old

    def build(self, sections: dict[str, tree.Section]) -> nodes.RooflineHardware | None:
        old, settings = self.old, self.settings
        peaks = self._peaks(sections.get("peak"))
        efficiency = self._efficiency(sections.get("efficiency"))
        gpus = settings.whole("gpus", old.gpus if old else 1, 1, MAX_GPUS)
        groups = settings.whole("expert_parallel", old.expert_parallel if old else 1, 1, MAX_GPUS)
        memory = self._positive("memory", BYTES, Fraction(old.memory_bytes if old else 0))
        bandwidth = self._positive(
            "bandwidth", BYTES_PER_S, old.bandwidth_bytes_per_s if old else Fraction(0)
        )
        link = self._positive("link", BYTES_PER_S, old.link_bytes_per_s if old else Fraction(0), zero=True)
        dtypes = self._dtypes(peaks)
        reserve = self._positive(
            "reserve", BYTES, Fraction(old.reserve_bytes if old else DEFAULT_RESERVE_BYTES), zero=True
        )
        overhead = self._positive("overhead", TIME, old.overhead_s if old else FITTED_OVERHEAD_S, zero=True)
        latency = self._positive(
            "link_latency", TIME, old.link_latency_s if old else FITTED_LINK_LATENCY_S, zero=True
        )
        page = settings.whole("page", old.page_tokens if old else DEFAULT_PAGE_TOKENS, 1, 2**20)
        max_batch = settings.whole("max_batch", old.max_batch if old else DEFAULT_MAX_BATCH, 1, MAX_BATCH)
        kv_fraction = self._share("kv_fraction", settings, old.kv_fraction if old else DEFAULT_KV_FRACTION)
        kv_policy = settings.word("kv_policy", old.kv_policy if old else "full")
        gqa_decode = self._gqa_decode(sections.get("gqa_decode"))
        said = old if old and not self._constants_changed(sections) else None
        error = said.calibration_error if said else None
        if settings.has("error"):
            error = settings.quantity("error", COUNT, Fraction(0), Fraction(0), Fraction(1))
        price, power = stated(settings, "price", DOLLARS_PER_S), stated(settings, "power", POWER)
        if settings.failed or dtypes is None:
            return None
        self._consistent(gpus, groups, link, reserve, memory)
        return nodes.RooflineHardware(
            profile=old.profile if old else self.symbol.name,
            gpus=gpus,
            expert_parallel=groups,
            memory_bytes=int(memory),
            bandwidth_bytes_per_s=bandwidth,
            flop_per_s=peaks,
            link_bytes_per_s=link,
            dtype=dtypes.weights,
            expert_dtype=dtypes.experts,
            activation_dtype=dtypes.activations,
            kv_dtype=dtypes.kv,
            embedding_dtype=dtypes.embedding,
            head_dtype=dtypes.head,
            efficiency_compute=efficiency["compute"],
            efficiency_experts=efficiency.get("experts"),
            efficiency_bandwidth=efficiency["bandwidth"],
            efficiency_attention=efficiency["attention"],
            efficiency_link=efficiency["link"],
            overhead_s=overhead,
            link_latency_s=latency,
            reserve_bytes=int(reserve),
            kv_fraction=kv_fraction,
            kv_policy=cast(Literal["full", "mean"], kv_policy),
            page_tokens=page,
            max_batch=max_batch,
            gqa_decode=gqa_decode,
            engine=settings.text("engine", said.engine if said else ""),
            calibration=settings.text("calibration", said.calibration if said else ""),
            calibration_error=error,
            usd_per_s=price if price is not None or old is None else old.usd_per_s,
            watts=power if power is not None or old is None else old.watts,
        )

    def _peaks(self, section: tree.Section | None) -> dict[str, Fraction]:
        peaks = dict(self.old.flop_per_s) if self.old else {}
        if section is None:
            return peaks
        found = section_of(self.ctx, self.symbol, "peak", section)
        for dtype in found.entries:
            peak = self._positive(dtype, FLOP_PER_S, Fraction(0), settings=found, what=f"the {dtype} peak")
            if peak:
                peaks[dtype] = peak
        self.settings.failed |= found.failed
        if not peaks and not found.failed:
            found.need("bf16", help="write `bf16 = 989TFLOP/s`")
            self.settings.failed = True
        return peaks

    def _efficiency(self, section: tree.Section | None) -> dict[str, Fraction]:
        """Return the shares of the peaks that are reached; without `experts` where they reach that of other matrices."""
        old, values = self.old, dict(FITTED_EFFICIENCY)
        if old:
            values = {
                "compute": old.efficiency_compute,
                "bandwidth": old.efficiency_bandwidth,
                "attention": old.efficiency_attention,
                "link": old.efficiency_link,
            }
            if old.efficiency_experts is not None:
                values["experts"] = old.efficiency_experts
        if section is not None:
            found = section_of(self.ctx, self.symbol, "efficiency", section)
            if found.has("experts"):
                values.setdefault("experts", values["compute"])
            values = {key: self._share(key, found, value, "efficiency of ") for key, value in values.items()}
            self.settings.failed |= found.failed
        return values

    def _constants_changed(self, sections: dict[str, tree.Section]) -> bool:
        """Return True if the profile changes constants that the base's calibration fitted, so that the calibration is invalid."""
        return "efficiency" in sections or any(map(self.settings.has, ("overhead", "link_latency")))

    def _gqa_decode(self, section: tree.Section | None) -> nodes.GqaDecode | None:
        """Read `gqa_decode { tokens = 64Ki, kv1 = 31us, kv8 = 102us }`: measured decode-attention times by KV heads per GPU."""
        if section is None:
            return self.old.gqa_decode if self.old else None
        heads = {f"kv{n}": n for n in range(1, MAX_DECODE_HEADS + 1)}
        found = section_of(self.ctx, self.symbol, "gqa_decode", section)
        found.need("tokens", help="write `tokens = 64Ki`: cached tokens of all sequences that were read")
        times = {}
        for key in sorted(set(found.entries) & set(heads), key=heads.__getitem__):
            seconds = self._positive(key, TIME, Fraction(0), settings=found, what=f"`{key}`")
            times[heads[key]] = seconds
        if not times:
            found.need("kv8", help="write `kv8 = 102us`: the time at 8 KV heads a GPU")
        tokens = found.whole("tokens", 1, 1, 2**40)
        self.settings.failed |= found.failed
        return None if found.failed else nodes.GqaDecode(tokens=tokens, seconds=times)

    def _dtypes(self, peaks: dict[str, Fraction]) -> _Dtypes | None:
        """Return the number types of the profile; None, reported, if the hardware cannot compute in one of them."""
        old, settings = self.old, self.settings
        usual = "bf16" if "bf16" in peaks or not peaks else next(iter(peaks))

        def word(key: str, default: str | None) -> str | None:
            return settings.word(key, usual) if settings.has(key) else default

        found = _Dtypes(
            weights=word("dtype", old.dtype if old else usual) or usual,
            experts=word("experts", old.expert_dtype if old else None),
            activations=word("activations", old.activation_dtype if old else None),
            kv=word("kv_cache", old.kv_dtype if old else usual) or usual,
            embedding=word("embedding", old.embedding_dtype if old else usual) or usual,
            head=word("head", old.head_dtype if old else None),
        )
        if settings.failed:
            return None
        computed = (
            ("dtype", found.weights) if found.activations is None else ("activations", found.activations),
            ("embedding", found.embedding) if found.head is None else ("head", found.head),
        )
        for key, dtype in computed:
            if dtype not in peaks and not (dtype == "fp16" and "bf16" in peaks):
                name = old.profile if old else self.symbol.name
                help = "it has " + ", ".join(f"`{d}`" for d in peaks)
                if key == "dtype":
                    help += (
                        f"; to store weights in {dtype} and multiply in {usual}, add `activations: {usual}`"
                    )
                self.ctx.report(errors.NoPeak(settings.place(key), hardware=name, dtype=dtype, help=help))
                return None
        return found

    def _positive(
        self,
        key: str,
        dimension: Dimension,
        default: Fraction,
        zero: bool = False,
        settings: Settings | None = None,
        what: str = "",
    ) -> Fraction:
        own = settings or self.settings
        value = own.quantity(key, dimension, default)
        if own.has(key) and not own.failed and (value < 0 or (value == 0 and not zero)):
            condition = "at least 0" if zero else "more than 0"
            self._impossible(own.place(key), what or f"`{key}`", condition, format_quantity(value, dimension))
            own.failed = True
        return value

    def _share(self, key: str, settings: Settings, default: Fraction, prefix: str = "") -> Fraction:
        value = settings.quantity(key, COUNT, default)
        if settings.has(key) and not settings.failed and not 0 < value <= 1:
            got = format_quantity(value, COUNT)
            self._impossible(settings.place(key), f"{prefix}`{key}`", "more than 0 and at most 1", got)
            settings.failed = True
        return value

    def _impossible(self, place: Span, what: str, condition: str, got: str) -> None:
        error = errors.ImpossibleHardware(
            place, what=what, hardware=self.symbol.name, condition=condition, got=got
        )
        self.ctx.report(error)

    def _consistent(
        self, gpus: int, groups: int, link: Fraction, reserve: Fraction, memory: Fraction
    ) -> None:
        if gpus % groups:
            place = self.settings.place("expert_parallel" if self.settings.has("expert_parallel") else "gpus")
            self._impossible(place, "`expert_parallel`", f"a divisor of the {gpus} GPUs", str(groups))
        if gpus > 1 and link == 0:
            place = self.settings.place("gpus")
            self._impossible(place, "`link`", f"more than 0 for {gpus} GPUs", "0")
        if reserve >= memory:
            got = format_quantity(reserve, BYTES)
            place = self.settings.place("reserve" if self.settings.has("reserve") else "memory")
            self._impossible(
                place, "`reserve`", f"less than the memory ({format_quantity(memory, BYTES)})", got
            )


# ---------------------------------------------------------------- scenarios


def lower_scenario(ctx: Context, symbol: Symbol) -> nodes.Scenario | None:
    """`scenario s on h = batch(256, 128 -> 1024)`."""
    check_parts(ctx, symbol)
    decl = declaration(symbol)
    hardware = target(ctx, symbol)
    if hardware is not None:
        ctx.lower_later(hardware)
    call = call_of(ctx, symbol)
    if call is None:
        return None
    settings = arguments_of(ctx, symbol, call)
    help = "write `batch(256, 128 -> 1024)`: sequences, prompt and output tokens of each"
    settings.need("batch", "tokens", help=help)
    if settings.failed:
        return None
    batches = _batches(ctx, settings)
    tokens = _prompt_and_output(ctx, settings)
    if batches is None or tokens is None or hardware is None:
        return None
    return nodes.Scenario(
        name=ctx.name_of(symbol),
        hardware=ctx.name_of(hardware),
        batches=batches,
        prompt=tokens[0],
        output=tokens[1],
        doc=decl.doc,
        where=where(ctx, symbol),
    )


def _batches(ctx: Context, settings: Settings) -> tuple[int, ...] | None:
    """Return the candidate batches in ascending order; empty for `auto`."""
    entry = settings.entry("batch")
    if isinstance(entry.expr, tree.Name) and entry.expr.text == "auto":
        return ()
    value = ctx.value(entry.expr, entry.scope)
    if isinstance(value, Poison):
        return None
    found = [
        as_whole(ctx, option.value, option.span, "a batch", 1, MAX_BATCH)
        for option in located(value, entry.expr.span)
    ]
    return None if None in found else tuple(sorted({b for b in found if b is not None}))


def _prompt_and_output(ctx: Context, settings: Settings) -> tuple[int, int] | None:
    entry = settings.entry("tokens")
    if not isinstance(entry.expr, tree.Arrow):
        if not isinstance(entry.expr, tree.BadExpr):
            wanted, help = "prompt -> output", "write `128 -> 1024`"
            got = f"`{ctx.source(entry.expr.span)}`"
            what = "what follows the batch"
            ctx.report(types.WrongType(entry.expr.span, what=what, wanted=wanted, got=got, help=help))
        return None
    ends = [(entry.expr.left, "the prompt"), (entry.expr.right, "the output")]
    prompt, output = (
        as_whole(ctx, ctx.value(expr, entry.scope), expr.span, what, 1, 2**40) for expr, what in ends
    )
    return None if prompt is None or output is None else (prompt, output)
