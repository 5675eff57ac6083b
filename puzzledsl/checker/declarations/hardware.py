"""`hardware` and `scenario`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from puzzledsl.base.diagnostics import Diagnostic, Fix
from puzzledsl.base.settings import Call
from puzzledsl.base.stage_errors import SeveralGpus
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    body_of,
    call_of,
    check_parts,
    declaration,
    head,
    section_of,
    target,
    target_later,
)
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.engine_errors import EngineLacksType, NotOfPyTorch
from puzzledsl.checker.diagnostics.name_errors import Misplaced
from puzzledsl.checker.expressions.coercions import as_whole
from puzzledsl.checker.expressions.settings import Settings, from_call, located, lower
from puzzledsl.checker.expressions.values import Constructed, Poison, Symbol
from puzzledsl.ir import nodes
from puzzledsl.ir.hardware_nodes import MAX_BATCH
from puzzledsl.ir.measured_engines import ENGINES, TORCH, Engine
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

Spec = nodes.RooflineHardware | nodes.MeasuredHardware | nodes.TableHardware
CHANGES = Call("A profile with some settings changed.", KINDS["hardware"].settings)
SECTIONS = KINDS["hardware"].sections


def lower_hardware(ctx: Context, symbol: Symbol) -> nodes.Hardware | None:
    """`hardware h = PROFILE(…)`, `measured(…)`, `table(…)`, a literal block, or `hardware h of g { … }`."""
    decl = declaration(symbol)
    spec: Spec | None
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
    return None if spec is None else nodes.Hardware(**head(ctx, symbol), spec=spec)


def _from_call(ctx: Context, symbol: Symbol, call: Constructed) -> Spec | None:
    if call.base is not None:
        return _changed(ctx, symbol, call.base, call)
    check_parts(ctx, symbol, "needed", "none")
    settings = arguments_of(ctx, symbol, call)
    if call.name != "table":
        return lower_measured(settings, ctx.name_of(symbol))
    table = lower(settings, nodes.TableHardware)
    return None if settings.failed else table


def lower_measured(settings: Settings, name: str) -> nodes.MeasuredHardware | None:
    """`measured(engine: llama_cpp, dtype: q8_0, threads: 4)`."""
    engine = ENGINES[settings.read("engine")]
    spec = lower(settings, nodes.MeasuredHardware, dtype=settings.read("dtype", engine.dtype))
    if settings.failed:
        return None
    problems = list[Diagnostic]()
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
        settings.report(problem)
    return None if problems else spec


def _lacks(
    settings: Settings, engine: Engine, key: str, value: str, known: tuple[str, ...]
) -> EngineLacksType:
    same = {"fp32": "f32", "fp16": "f16", "f32": "fp32", "f16": "fp16"}.get(value)
    help = f"it has {', '.join(f'`{word}`' for word in known)}"
    if same in known:
        help = f"it calls it `{same}`: write `{key}: {same}`"
    return EngineLacksType(settings.place(key), engine=engine.title, key=key, value=value, help=help)


# ---------------------------------------------------------------- analytic profiles


def _changed(ctx: Context, symbol: Symbol, base: Symbol | None, call: Constructed | None) -> Spec | None:
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
        settings.need_all()
        if "peak" not in sections:
            settings.need("peak", help="write `peak { bf16 = 989TFLOP/s }`")
    return _Profile(ctx, symbol, settings, sections, old).read()


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

    def read(self) -> nodes.RooflineHardware | None:
        """Return the profile; None, reported, if it has mistakes."""
        settings, old = self.settings, self.old
        settings.refuse = partial(self._impossible, settings, "`KEY`")
        peaks, given = self._peaks(), self._efficiency()
        refitted = "efficiency" in self.sections or any(map(settings.has, ("overhead", "link_latency")))
        if refitted or old is None:  # what the constants were fitted to holds for those of `old` alone
            given |= {field: settings.read(key) for key, field in _FITTED.items()}
        node = lower(
            settings,
            nodes.RooflineHardware,
            old,
            profile=old.profile if old else self.symbol.name,
            flop_per_s=peaks,
            gqa_decode=self._gqa_decode(),
            **self._dtypes(peaks),
            **given,
        )
        if settings.failed:
            return None
        self._check_consistent(node)
        return node

    def _section(self, name: str, what: str) -> Settings | None:
        """Return the figures of a section; `what` names one in diagnostics, for KEY."""
        if name not in self.sections:
            return None
        found = section_of(self.ctx, self.symbol, name, self.sections[name])
        found.refuse = partial(self._impossible, found, what)
        return found

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
        for key in (multiplied, "embedding" if found["head"] is None else "head"):
            dtype = found[key]
            if settings.failed or dtype in peaks or (dtype == "fp16" and "bf16" in peaks):
                continue
            name = old.profile if old else self.symbol.name
            help = "it has " + ", ".join(f"`{d}`" for d in peaks)
            if key == "dtype":
                help += f"; to store weights in {dtype} and multiply in {usual}, add `activations: {usual}`"
            settings.report(errors.NoPeak(settings.place(key), hardware=name, dtype=dtype, help=help))
        return {words[key].name: dtype for key, dtype in found.items()}

    def _impossible(self, settings: Settings, what: str, key: str, condition: str, got: str) -> None:
        place, what = settings.place(key), what.replace("KEY", key)
        problem = errors.ImpossibleHardware(
            place, what=what, hardware=self.symbol.name, condition=condition, got=got
        )
        settings.ctx.report(problem)

    def _check_consistent(self, node: nodes.RooflineHardware) -> None:
        settings, gpus, groups, memory = self.settings, node.gpus, node.expert_parallel, node.memory_bytes
        if gpus % groups:
            key = "expert_parallel" if settings.has("expert_parallel") else "gpus"
            condition = f"a divisor of the {gpus} GPUs"
            self._impossible(settings, "`expert_parallel`", key, condition, str(groups))
        if gpus > 1 and node.link_bytes_per_s == 0:
            self._impossible(settings, "`link`", "gpus", f"more than 0 for {gpus} GPUs", "0")
        if node.reserve_bytes >= memory:
            key = "reserve" if settings.has("reserve") else "memory"
            condition = f"less than the memory ({format_quantity(memory, BYTES)})"
            self._impossible(
                settings, "`reserve`", key, condition, format_quantity(node.reserve_bytes, BYTES)
            )


# ---------------------------------------------------------------- scenarios


def lower_scenario(ctx: Context, symbol: Symbol) -> nodes.Scenario | None:
    """`scenario s on h = batch(256, 128 -> 1024)`."""
    check_parts(ctx, symbol)
    hardware, call = target_later(ctx, symbol), call_of(ctx, symbol)
    if call is None:
        return None
    settings = arguments_of(ctx, symbol, call)
    settings.need_all()
    if settings.failed:
        return None
    batches, tokens = _batches(ctx, settings), _prompt_and_output(ctx, settings)
    if batches is None or tokens is None or hardware is None:
        return None
    return nodes.Scenario(**head(ctx, symbol, hardware), batches=batches, prompt=tokens[0], output=tokens[1])


def _batches(ctx: Context, settings: Settings) -> tuple[int, ...] | None:
    """Return the candidate batches in ascending order; empty for `auto`."""
    entry = settings.entry("batch")
    if isinstance(entry.expr, tree.Name) and entry.expr.text == "auto":
        return ()
    if isinstance(entry.expr, tree.Name) and entry.expr.text == "max":
        help = "write `auto` for the best of all batches, or their number"
        fixes = [Fix.replace(entry.expr.span, "auto", safe=False)]
        what, wanted, got = "a batch", "a number or `auto`", "a function"
        place = entry.expr.span
        ctx.report(types.WrongType(place, what=what, wanted=wanted, got=got, help=help, fixes=fixes))
        return None
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
