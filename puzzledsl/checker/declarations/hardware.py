"""Lowering of `hardware` and `scenario`."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

from puzzledsl.base.diagnostics import Args, SeveralGpus
from puzzledsl.base.queueing import read_lengths
from puzzledsl.base.settings import REQUIRED, Call
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import Declared
from puzzledsl.checker.expressions.numbers import as_whole
from puzzledsl.checker.expressions.settings import Settings, from_call, lower
from puzzledsl.checker.expressions.values import Constructed, RangeValue, Symbol, Value, located
from puzzledsl.ir import nodes
from puzzledsl.ir.hardware_nodes import MAX_BATCH
from puzzledsl.ir.measured_engines import ENGINES, TORCH
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

Spec = nodes.RooflineHardware | nodes.MeasuredHardware | nodes.TableHardware
MAX_TOKENS = 2**40
T = TypeVar("T")


def lower_hardware(ctx: Context, symbol: Symbol) -> nodes.Hardware:
    """Lower `hardware h = PROFILE(…)`, `measured(…)`, `table(…)`, a literal block, or `hardware h of g { … }`."""
    hardware = Declared(ctx, symbol)
    decl = hardware.decl
    call = None if decl.value is None else hardware.call()
    if call is not None and call.base is None:
        hardware.check_parts("needed", "none")
        settings = hardware.arguments(call)
        if call.name == "table":
            table = settings.sound(lower(settings, nodes.TableHardware))
            return nodes.Hardware(**hardware.head(), spec=table)
        return nodes.Hardware(**hardware.head(), spec=lower_measured(settings, ctx.name_of(symbol)))
    base = call.base if call is not None else hardware.target() if decl.target is not None else None
    if call is None and (base is not None or decl.target is None):
        hardware.check_parts("allowed", "needed" if base is None else "allowed")
    if base is None and (decl.target is not None or decl.body is None):
        raise Refused
    return nodes.Hardware(**hardware.head(), spec=_changed(hardware, base, call))


def lower_measured(settings: Settings, name: str) -> nodes.MeasuredHardware:
    """Lower `measured(engine: llama_cpp, dtype: q8_0, threads: 4)`."""
    engine = ENGINES[settings.read("engine")]
    spec = settings.sound(lower(settings, nodes.MeasuredHardware, dtype=settings.read("dtype", engine.dtype)))
    if spec.gpus > 1:
        settings.report(SeveralGpus(settings.place("gpus"), name=name, gpus=spec.gpus))
    for key, value, known in (
        ("dtype", spec.dtype, engine.weights),
        ("device", spec.device, engine.devices),
        ("kv_cache", spec.kv_dtype, engine.caches),
    ):
        if value not in known:
            same = {"fp32": "f32", "fp16": "f16", "f32": "fp32", "f16": "fp16"}.get(value)
            help = f"it has {', '.join(f'`{word}`' for word in known)}"
            if same in known:
                help = f"it calls it `{same}`: write `{key}: {same}`"
            said: Args = {"engine": engine.title, "key": key, "value": value}
            settings.report(errors.EngineLacksType(settings.place(key), help=help, **said))
    if spec.threads is not None and engine.name == TORCH:
        settings.report(errors.NotOfPyTorch(settings.place("threads"), name=name))
    return settings.sound(spec)


def _changed(hardware: Declared, base: Symbol | None, call: Constructed | None) -> Spec:
    """Return `base`, if any, changed by the call's arguments and the body's settings. Refuse to change what is no profile."""
    ctx = hardware.ctx
    below = ctx.lower(base, nodes.Hardware) if base is not None else None
    old = None if below is None else below.spec
    if base is not None and isinstance(old, nodes.MeasuredHardware | nodes.TableHardware):
        if not (call is not None and call.arguments) and not hardware.decl.body:
            return old
        help = "only a profile's figures can be changed; measured costs and tables stand as they are"
        place = call.span if call is not None else hardware.symbol.span
        raise ctx.misplaced(place, "a change", f"hardware `{base.name}`", help)
    settings, sections = hardware.body()
    if call is not None:
        arguments = from_call(ctx, call, Call("", KINDS["hardware"].settings))
        settings.failed |= arguments.failed
        settings.entries = {**arguments.entries, **settings.entries}
    settings.failed |= base is not None and below is None  # whose figures are not known; these are checked
    if base is None:
        settings.need_all()
        if "peak" not in sections:
            settings.need("peak", help="write `peak { bf16 = 989TFLOP/s }`")
    profile = old if isinstance(old, nodes.RooflineHardware) else None
    return _profile(hardware, settings, sections, profile)


_FITTED = {"engine": "engine", "calibration": "calibration", "error": "calibration_error"}
"""Setting -> its IR field, of those that say what a profile's constants were fitted to."""


def _profile(
    hardware: Declared,
    settings: Settings,
    sections: Mapping[str, tree.Section],
    old: nodes.RooflineHardware | None,
) -> nodes.RooflineHardware:
    """Return the profile of these settings and, for those not written, of `old`. Report figures that contradict each other."""
    peak, shares = (hardware.section(n, sections.get(n)) for n in ("peak", "efficiency"))
    peaks = dict(old.flop_per_s) if old else {}
    peaks |= {dtype: flops for dtype in peak.entries if (flops := peak.read(dtype))}
    if "peak" in sections and not peaks and not peak.failed:
        peak.need("bf16", help="write `bf16 = 989TFLOP/s`")
    efficiency = {f"efficiency_{key}": key for key in shares.table}
    given = {name: shares.read(key, getattr(old, name, REQUIRED)) for name, key in efficiency.items()}
    settings.failed |= peak.failed or shares.failed
    refitted = "efficiency" in sections or any(map(settings.has, ("overhead", "link_latency")))
    if refitted or old is None:  # what the constants were fitted to holds for those of `old` alone
        given |= {field: settings.read(key) for key, field in _FITTED.items()}
    given |= {"profile": old.profile if old else hardware.symbol.name, "flop_per_s": peaks}
    given |= _dtypes(settings, peaks, old, given["profile"])
    node = settings.sound(lower(settings, nodes.RooflineHardware, old, **given))
    gpus, reserve, memory, ways = node.gpus, node.reserve_bytes, node.memory_bytes, node.expert_parallel
    apart, total = (format_quantity(amount, BYTES) for amount in (reserve, memory))
    if gpus % ways:  # settings that contradict each other are reported at the one that is written
        key = "expert_parallel" if settings.has("expert_parallel") else "gpus"
        hardware.ctx.beyond(settings.place(key), "`expert_parallel`", f"a divisor of the {gpus} GPUs", ways)
    if gpus > 1 and node.link_bytes_per_s == 0:
        hardware.ctx.beyond(settings.place("gpus"), "`link`", f"more than 0 for {gpus} GPUs", "0")
    if reserve >= memory:
        key = "reserve" if settings.has("reserve") else "memory"
        hardware.ctx.beyond(settings.place(key), "`reserve`", f"less than the memory ({total})", apart)
    return node


def _dtypes(
    settings: Settings, peaks: Mapping[str, Fraction], old: nodes.RooflineHardware | None, name: str
) -> dict[str, Any]:
    """Return IR field -> number type, as written, else as in `old`. Report a type of matrix products without a peak."""
    usual = "bf16" if "bf16" in peaks or not peaks else next(iter(peaks))
    words = {key: known for key, known in settings.table.items() if known.noun == "dtype"}
    found = {k: settings.read(k, getattr(old, w.name, w.value and usual)) for k, w in words.items()}
    multiplied = "dtype" if found["activations"] is None else "activations"
    for key in (multiplied, "embedding" if found["head"] is None else "head"):
        dtype = found[key]
        if settings.failed or dtype in peaks or (dtype == "fp16" and "bf16" in peaks):
            continue
        help = "it has " + ", ".join(f"`{d}`" for d in peaks)
        if key == "dtype":
            help += f"; to store weights in {dtype} and multiply in {usual}, add `activations: {usual}`"
        settings.report(errors.NoPeak(settings.place(key), hardware=name, dtype=dtype, help=help))
    return {words[key].name: dtype for key, dtype in found.items()}


def lower_scenario(scenario: Declared) -> nodes.Scenario:
    """Lower `scenario s on h = batch(256, 128 -> 1024)`, or `traffic(2 req/s, 256 -> 128)`."""
    call = scenario.call()
    settings = scenario.arguments(call)
    if call.name == "traffic":
        return nodes.Scenario(**scenario.head(), **_traffic(settings, scenario.symbol.file.path.parent))
    settings.need_all()
    settings.sound(settings)
    batches = settings.read("batch", None, _batches)
    tokens = settings.read("tokens", None, lambda known: _sides(known, as_whole))
    if batches is None or tokens is None:
        raise Refused
    return nodes.Scenario(**scenario.head(), batches=batches, prompt=tokens[0], output=tokens[1])


def _traffic(settings: Settings, directory: Path) -> dict[str, Any]:
    """Return the fields of a scenario of `traffic(…)`: the mean request, and as `batches` the numbers of sequences to time."""
    settings.need("rate", *(() if settings.has("lengths") else ("tokens",)))
    requests: tuple[tuple[int, int], ...] = settings.read("tokens", (), _requests)
    if settings.has("lengths") and settings.has("tokens"):
        help = "the lengths are those of the file: leave out `prompt -> output`"
        settings.ctx.misplaced(settings.place("tokens"), "`->`", "traffic with `lengths`", help)
    rate, at_most, lengths = map(settings.read, ("rate", "at_most", "lengths"))
    settings.sound(settings)
    if lengths is not None:
        try:
            requests = read_lengths(directory / lengths)
        except ValueError as error:
            help, at = 'each line is such as `{"prompt": 256, "output": 128}`', settings.place("lengths")
            raise settings.ctx.wrong(at, "`lengths`", "tokens of requests", str(error), help) from None
    if not requests:
        raise Refused
    prompt, output = (ceil(Fraction(sum(side), len(side))) for side in zip(*requests, strict=True))
    requests = requests if len({*requests}) > 1 else ()
    where = settings.ctx.where(settings.place("rate"))
    traffic = nodes.Traffic(rate=rate, lengths=lengths, at_most=at_most, requests=requests, where=where)
    return {"batches": timed_numbers(at_most), "prompt": prompt, "output": output, "traffic": traffic}


EACH = 8
"""Every number of sequences up to this is timed: engines compute tokens in fours or twos, and the rest one by one. In llama.cpp
a step of three takes as long as one of four (SmolLM2, `q8_0` and `iq4_nl`)."""


def timed_numbers(most: int) -> tuple[int, ...]:
    """Return the numbers of running sequences to time: 1 to EACH, then 12, 16, 24, 32 and so on below `most`, and `most`."""
    later = {size << power for size in (2, 3) for power in range(2, most.bit_length())}
    return tuple(sorted({n for n in {*range(1, EACH + 1), *later} if n < most} | {most}))


SPREAD = 64
"""Requests that stand for evenly spread lengths. Outputs go in steps of 27, coprime to this, to be unrelated to prompts."""


def _requests(settings: Settings) -> tuple[tuple[int, int], ...]:
    """Return SPREAD requests (prompt, output): alike for `256 -> 128`, each side spread evenly for `(64..512) -> (16..256)`."""
    (low, high), (least, most) = _sides(settings, _from_to)
    ends = (low, high), (least, most)
    prompts, outputs = ([a + (b - a) * i // (SPREAD - 1) for i in range(SPREAD)] for a, b in ends)
    return tuple((prompt, outputs[27 * i % SPREAD]) for i, prompt in enumerate(prompts))


def _from_to(ctx: Context, value: Value, *place: Any) -> tuple[int, int]:
    """Return both ends of a range of token numbers; a single number is both. `place`: the other arguments of `as_whole`."""
    ends = (value.low, value.high) if isinstance(value, RangeValue) else (value, value)
    low, high = (as_whole(ctx, end, *place) for end in ends)
    if low > high:
        raise ctx.beyond(place[0], place[1], f"a range upwards from {low}", str(high))
    return low, high


def _batches(settings: Settings) -> tuple[int, ...]:
    """Return the candidate batches in ascending order; empty for `auto`."""
    ctx, expr, place = settings.ctx, settings.entries["batch"].expr, settings.place("batch")
    if isinstance(expr, tree.Name) and expr.text == "auto":
        return ()
    options = located(settings.value("batch"), place)
    found = ctx.all(lambda _, each: as_whole(ctx, each.value, each.span, "a batch", 1, MAX_BATCH), options)
    return tuple(sorted(set(found)))


def _sides(settings: Settings, read: Callable[..., T]) -> tuple[T, T]:
    """Return the prompt and the output of `128 -> 1024`, each as `read(ctx, value, span, what, 1, MAX_TOKENS)` gives it."""
    ctx, ends, scope = settings.ctx, settings.entries["tokens"].expr, settings.entries["tokens"].scope
    if isinstance(ends, tree.BadExpr):
        raise Refused
    if not isinstance(ends, tree.Arrow):
        got, help = f"`{ctx.source(ends.span)}`", "write `128 -> 1024`"
        raise ctx.wrong(ends.span, "what follows the batch", "prompt -> output", got, help)
    sides = ((ends.left, "the prompt"), (ends.right, "the output"))
    values = [(ctx.value(end, scope), end.span, what, 1, MAX_TOKENS) for end, what in sides]
    prompt, output = (ctx.attempt(read, ctx, *side) for side in values)
    if prompt is None or output is None:
        raise Refused
    return prompt, output
