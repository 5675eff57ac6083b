"""`hardware` and `scenario`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

from puzzledsl.base.diagnostics import Args, Diagnostic, Fix
from puzzledsl.base.settings import Call
from puzzledsl.base.stage_errors import SeveralGpus
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations import common
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.diagnostics.declaration_errors import EngineLacksType, NotOfPyTorch
from puzzledsl.checker.diagnostics.name_errors import Misplaced
from puzzledsl.checker.expressions.coercions import as_whole
from puzzledsl.checker.expressions.settings import Settings, from_call, lower
from puzzledsl.checker.expressions.values import Constructed, Located, Scope, Symbol, located
from puzzledsl.ir import nodes
from puzzledsl.ir.hardware_nodes import MAX_BATCH
from puzzledsl.ir.measured_engines import ENGINES, TORCH, Engine
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

Spec = nodes.RooflineHardware | nodes.MeasuredHardware | nodes.TableHardware
CHANGES = Call("A profile with some settings changed.", KINDS["hardware"].settings)
SECTIONS = KINDS["hardware"].sections
MAX_TOKENS = 2**40


def lower_hardware(ctx: Context, symbol: Symbol) -> nodes.Hardware:
    """`hardware h = PROFILE(…)`, `measured(…)`, `table(…)`, a literal block, or `hardware h of g { … }`."""
    decl = common.declaration(symbol)
    call = None if decl.value is None else common.call_of(ctx, symbol)
    if call is not None and call.base is None:
        common.check_parts(ctx, symbol, "needed", "none")
        settings = common.arguments_of(ctx, symbol, call)
        spec: Spec
        if call.name == "table":
            spec = settings.sound(lower(settings, nodes.TableHardware))
        else:
            spec = lower_measured(settings, ctx.name_of(symbol))
        return nodes.Hardware(**common.head(ctx, symbol), spec=spec)
    base = call.base if call is not None else common.target(ctx, symbol) if decl.target is not None else None
    if base is None and decl.target is not None:
        raise Refused
    if call is None:
        common.check_parts(ctx, symbol, "allowed", "needed" if base is None else "allowed")
        if decl.body is None and base is None:
            raise Refused
    return nodes.Hardware(**common.head(ctx, symbol), spec=_changed(ctx, symbol, base, call))


def lower_measured(settings: Settings, name: str) -> nodes.MeasuredHardware:
    """`measured(engine: llama_cpp, dtype: q8_0, threads: 4)`."""
    engine = ENGINES[settings.read("engine")]
    spec = lower(settings, nodes.MeasuredHardware, dtype=settings.read("dtype", engine.dtype))
    settings.sound(spec)
    if spec.gpus > 1:
        settings.report(SeveralGpus(settings.place("gpus"), name=name, gpus=spec.gpus))
    for key, value, known in (
        ("dtype", spec.dtype, tuple(engine.weights)),
        ("device", spec.device, engine.devices),
    ):
        if value not in known:
            settings.report(_lacks(settings, engine, key, value, known))
    if spec.threads is not None and engine.name == TORCH:
        settings.report(NotOfPyTorch(settings.place("threads"), name=name))
    return settings.sound(spec)


def _lacks(
    settings: Settings, engine: Engine, key: str, value: str, known: tuple[str, ...]
) -> EngineLacksType:
    same = {"fp32": "f32", "fp16": "f16", "f32": "fp32", "f16": "fp16"}.get(value)
    help = f"it has {', '.join(f'`{word}`' for word in known)}"
    if same in known:
        help = f"it calls it `{same}`: write `{key}: {same}`"
    return EngineLacksType(settings.place(key), engine=engine.title, key=key, value=value, help=help)


def _changed(ctx: Context, symbol: Symbol, base: Symbol | None, call: Constructed | None) -> Spec:
    """Read a profile derived from `base`: the call's arguments and the body's settings override it."""
    decl = common.declaration(symbol)
    below = ctx.lower(base, nodes.Hardware) if base is not None else None
    old = None if below is None else below.spec
    if base is not None and isinstance(old, nodes.MeasuredHardware | nodes.TableHardware):
        if not (call is not None and call.arguments) and not decl.body:
            return old
        help = "only a profile's figures can be changed; measured costs and tables stand as they are"
        said: Args = {"what": "a change", "where": f"hardware `{base.name}`"}
        raise ctx.refuse(Misplaced(call.span if call is not None else symbol.span, help=help, **said))
    settings, sections = common.body_of(ctx, symbol)
    if call is not None:
        arguments = from_call(ctx, call, CHANGES)
        settings.failed |= arguments.failed
        settings.entries = {**arguments.entries, **settings.entries}
    settings.failed |= base is not None and below is None  # whose figures are not known; these are checked
    if base is None:
        settings.need_all()
        if "peak" not in sections:
            settings.need("peak", help="write `peak { bf16 = 989TFLOP/s }`")
    profile = old if isinstance(old, nodes.RooflineHardware) else None
    return _Profile(ctx, symbol, settings, sections, profile).read()


_FITTED = {"engine": "engine", "calibration": "calibration", "error": "calibration_error"}
"""Settings that say what a profile's constants were fitted to, and their fields."""


@dataclass(slots=True, eq=False)
class _Profile:
    """Reader of one profile's figures. Each is checked against what is physically possible."""

    ctx: Context
    symbol: Symbol
    settings: Settings
    sections: Mapping[str, tree.Section]
    old: nodes.RooflineHardware | None

    def read(self) -> nodes.RooflineHardware:
        """Return the profile."""
        settings, old = self._strict(self.settings, "`KEY`"), self.old
        peaks, given = self._peaks(), self._efficiency()
        refitted = "efficiency" in self.sections or any(map(settings.has, ("overhead", "link_latency")))
        if refitted or old is None:  # what the constants were fitted to holds for those of `old` alone
            given |= {field: settings.read(key) for key, field in _FITTED.items()}
        given |= {"profile": old.profile if old else self.symbol.name, "gqa_decode": self._gqa_decode()}
        node = lower(settings, nodes.RooflineHardware, old, flop_per_s=peaks, **self._dtypes(peaks), **given)
        self._check_consistent(settings.sound(node))
        return node

    def _strict(self, settings: Settings, what: str) -> Settings:
        """Refuse figures that are physically impossible; `what` names one in diagnostics, for KEY."""

        def refuse(key: str, condition: str, got: str) -> NoReturn:
            said: Args = {"what": what.replace("KEY", key), "condition": condition, "got": got}
            raise self.ctx.refuse(self._impossible(settings, key, **said))

        settings.out_of_range = refuse
        return settings

    def _impossible(self, settings: Settings, key: str, **said: Any) -> Diagnostic:
        return errors.ImpossibleHardware(settings.place(key), hardware=self.symbol.name, **said)

    def _section(self, name: str, what: str) -> Settings | None:
        """Return the figures of a section."""
        if name not in self.sections:
            return None
        return self._strict(common.section_of(self.ctx, self.symbol, name, self.sections[name]), what)

    def _peaks(self) -> dict[str, Fraction]:
        peaks = dict(self.old.flop_per_s) if self.old else {}
        found = self._section("peak", "the KEY peak")
        if found is not None:
            peaks |= {dtype: peak for dtype in found.entries if (peak := found.read(dtype))}
            if not peaks and not found.failed:
                found.need("bf16", help="write `bf16 = 989TFLOP/s`")
            self.settings.failed |= found.failed
        return peaks

    def _efficiency(self) -> dict[str, Any]:
        """Return the shares of the peaks that are reached; None for `experts` where they reach that of other matrices."""
        usual = {key: known.value for key, known in SECTIONS["efficiency"].settings.items()}
        if self.old:
            usual = {key: getattr(self.old, f"efficiency_{key}") for key in usual}
        found = self._section("efficiency", "efficiency of `KEY`")
        if found is not None:
            usual = {key: found.read(key, value) for key, value in usual.items()}
            self.settings.failed |= found.failed
        return {f"efficiency_{key}": share for key, share in usual.items()}

    def _gqa_decode(self) -> nodes.GqaDecode | None:
        """Read `gqa_decode { tokens = 64Ki, kv1 = 31us, kv8 = 102us }`: measured times by KV heads a GPU."""
        found = self._section("gqa_decode", "`KEY`")
        if found is None:
            return self.old.gqa_decode if self.old else None
        found.need("tokens")
        heads = sorted(int(key.removeprefix("kv")) for key in found.entries if key.startswith("kv"))
        times = {n: found.read(f"kv{n}") for n in heads}
        if not times:
            found.need("kv8")
        tokens = found.read("tokens")
        self.settings.failed |= found.failed
        return None if found.failed else nodes.GqaDecode(tokens=tokens, seconds=times)

    def _dtypes(self, peaks: Mapping[str, Fraction]) -> dict[str, Any]:
        """Return the number types of the profile. Report one that the hardware cannot compute in."""
        settings, old = self.settings, self.old
        usual = "bf16" if "bf16" in peaks or not peaks else next(iter(peaks))
        words = {key: known for key, known in settings.table.items() if known.noun == "dtype"}
        found = {
            key: settings.read(key, getattr(old, known.name) if old else known.value and usual)
            for key, known in words.items()
        }
        multiplied = "dtype" if found["activations"] is None else "activations"
        name = old.profile if old else self.symbol.name
        for key in (multiplied, "embedding" if found["head"] is None else "head"):
            dtype = found[key]
            if settings.failed or dtype in peaks or (dtype == "fp16" and "bf16" in peaks):
                continue
            help = "it has " + ", ".join(f"`{d}`" for d in peaks)
            if key == "dtype":
                help += f"; to store weights in {dtype} and multiply in {usual}, add `activations: {usual}`"
            settings.report(errors.NoPeak(settings.place(key), hardware=name, dtype=dtype, help=help))
        return {words[key].name: dtype for key, dtype in found.items()}

    def _check_consistent(self, node: nodes.RooflineHardware) -> None:
        gpus, reserve, memory = node.gpus, node.reserve_bytes, node.memory_bytes
        if gpus % node.expert_parallel:
            got, condition = str(node.expert_parallel), f"a divisor of the {gpus} GPUs"
            self._inconsistent("expert_parallel", ("expert_parallel", "gpus"), condition, got)
        if gpus > 1 and node.link_bytes_per_s == 0:
            self._inconsistent("link", ("gpus", "gpus"), f"more than 0 for {gpus} GPUs", "0")
        if reserve >= memory:
            condition = f"less than the memory ({format_quantity(memory, BYTES)})"
            self._inconsistent("reserve", ("reserve", "memory"), condition, format_quantity(reserve, BYTES))

    def _inconsistent(self, name: str, keys: tuple[str, str], condition: str, got: str) -> None:
        """Report two settings that contradict each other, at the one that is written."""
        key = keys[0] if self.settings.has(keys[0]) else keys[1]
        said: Args = {"what": f"`{name}`", "condition": condition, "got": got}
        self.ctx.report(self._impossible(self.settings, key, **said))


def lower_scenario(ctx: Context, symbol: Symbol) -> nodes.Scenario:
    """`scenario s on h = batch(256, 128 -> 1024)`."""
    common.check_parts(ctx, symbol)
    hardware, call = common.target_later(ctx, symbol), common.call_of(ctx, symbol)
    settings = common.arguments_of(ctx, symbol, call)
    settings.need_all()
    settings.sound(settings)
    batches = ctx.attempt(_batches, ctx, settings)
    prompt, output = _prompt_and_output(ctx, settings)
    if batches is None or hardware is None:
        raise Refused
    return nodes.Scenario(**common.head(ctx, symbol, hardware), batches=batches, prompt=prompt, output=output)


def _batches(ctx: Context, settings: Settings) -> tuple[int, ...]:
    """Return the candidate batches in ascending order; empty for `auto`."""
    entry = settings.entry("batch")
    word, place = entry.expr.text if isinstance(entry.expr, tree.Name) else "", entry.expr.span
    if word == "auto":
        return ()
    if word == "max":
        help = "write `auto` for the best of all batches, or their number"
        fixes = [Fix.replace(place, "auto", safe=False)]
        raise ctx.wrong(place, "a batch", "a number or `auto`", "a function", help, fixes)
    return tuple(sorted(set(ctx.all(_batch, located(settings.value("batch"), place)))))


def _batch(ctx: Context, option: Located) -> int:
    return as_whole(ctx, option.value, option.span, "a batch", 1, MAX_BATCH)


def _prompt_and_output(ctx: Context, settings: Settings) -> list[int]:
    entry = settings.entry("tokens")
    if isinstance(entry.expr, tree.BadExpr):
        raise Refused
    if not isinstance(entry.expr, tree.Arrow):
        got, help = f"`{ctx.source(entry.expr.span)}`", "write `128 -> 1024`"
        raise ctx.wrong(entry.expr.span, "what follows the batch", "prompt -> output", got, help)
    ends = [(entry.expr.left, "the prompt"), (entry.expr.right, "the output")]
    return ctx.all(_tokens, ends, entry.scope)


def _tokens(ctx: Context, end: tuple[tree.Expr, str], scope: Scope) -> int:
    return as_whole(ctx, ctx.value(end[0], scope), end[0].span, end[1], 1, MAX_TOKENS)
