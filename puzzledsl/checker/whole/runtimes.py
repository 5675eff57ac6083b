"""Check of each `export`, and of each engine that costs are measured in, against the space, before any child exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.support import FAMILY, Absent, Architecture, Lowered
from puzzledsl.base.diagnostics import Args, Fix, Label, Span
from puzzledsl.base.phrases import layers_in_words, listed
from puzzledsl.base.stage_errors import RecipeOfQuantised
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import declaration_errors as errors
from puzzledsl.ir import nodes
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.measured_engines import RECIPES, Engine
from puzzledsl.ir.references import references, space_of
from puzzledsl.ir.runtimes import Choices, Fit, Lack, engine_of, extra_params, fit, fit_in
from puzzledsl.ir.stage_nodes import EXPORTS
from puzzledsl.syntax import tree

FORMATS = {runtime: name for name, call in EXPORTS.items() for runtime in call.arguments["runtime"].words}
"""Runtime -> the export format that is for it."""
BYTES_PER_PARAM = {"fp64": 8, "fp32": 4, "f32": 4, "tf32": 4, "fp8": 1, "int8": 1, "q8_0": 1.0625} | {
    recipe.name: recipe.bits / 8 for recipe in RECIPES.values()
}

SMALL_ROUNDING_BITS = 8
"""Bits of a weight from which on the rounding of whole files changes little: `q8_0` of SmolLM2-135M has a KL of 0.004."""


def check_exports(ctx: Context, program: nodes.Program) -> None:
    """Report what an export's space allows and its runtime lacks.

    Errors for alternatives that cannot be rewritten, or in an export with `lower: false`; warnings for those that are
    rewritten.
    """
    for export in program.exports.values():
        space = program.spaces[space_of(program, export)]
        item = ctx.taken[export.name].item
        value = item.value if isinstance(item, tree.Decl) else None
        # the call of an export that has its own, not one that a `let` holds
        call = value.span if isinstance(value, tree.Call) else None
        _ExportCheck(ctx, export, space, program.parents[space.parent], call).report()


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """One thing that a runtime lacks: what it becomes, at what cost, and how to do without it."""

    what: str
    layers: str
    into: str
    cost: str
    drop: str


@dataclass(frozen=True, slots=True)
class _ExportCheck:
    """Check of one export. `call` is the place of its call, if it has its own."""

    ctx: Context
    export: nodes.Export
    space: nodes.Space
    parent: nodes.Parent
    call: Span | None

    @property
    def written(self) -> str:
        """Its call on one line; empty if a comment stands in it, or without a call of its own."""
        text = "" if self.call is None else " ".join(self.ctx.source(self.call).split())
        return "" if "#" in text else text

    def report(self) -> None:
        """Report what the runtime lacks."""
        ctx, export, parent, space = self.ctx, self.export, self.parent, self.space
        runtime, where = RUNTIMES[export.runtime], ctx.span_of(export.runtime_where)
        if export.dtype is not None and export.dtype in RECIPES:
            self._report_recipe(export.dtype)
        choices = [(layer.attention, layer.ffn) for layer in space.layers]
        found = fit(runtime, parent.shape, choices, parent.computation)
        absent = [answer.reason for _, answer in found.model if isinstance(answer, Absent)]
        for reason in absent[:1] if found.absent[0] else absent:
            said: Args = {"runtime": runtime.title, "family": parent.shape.family, "reason": reason}
            beside = [Label(ctx.span_of(parent.where), "the parent")]
            help = self._other_runtimes(choices)
            ctx.report(errors.NoSuchFamily(where, secondary=beside, help=help, **said))
        if absent:
            return
        label = self._label("used by" if space.used_by else "what")
        drop = f"write {self._runtime('transformers')}"
        rewritten = [
            _Rewritten(what, "the whole model", answer.into, self._cost(found.architecture, answer), drop)
            for what, answer in found.model
            if isinstance(answer, Lowered)
        ]
        for lack in found.lacks:
            what = f"`{lack.alternative.name}` {'FFN' if lack.sub_block == 'ffn' else 'attention'}"
            layers, support = layers_in_words(list(lack.layers)), lack.support
            if isinstance(support, Absent):
                said = {"runtime": runtime.title, "what": what, "layers": layers, "reason": support.reason}
                help = self._absent_help(lack)
                ctx.report(errors.CannotRepresent(where, secondary=[label], help=help, **said))
            elif isinstance(support, Lowered):
                cost = self._cost(found.architecture, support, lack)
                rewritten.append(_Rewritten(what, layers, support.into, cost, _drop(lack)))
        if rewritten and not export.lower:
            self._report_lowered(where, label, rewritten)

    def _label(self, what: str) -> Label:
        return Label(self.ctx.span_of(self.space.where), f"{what} `{self.export.of}` may choose")

    def _report_recipe(self, recipe: str) -> None:
        """Report storage types of sub-blocks beside a recipe that chooses every matrix's."""
        choices = (part for layer in self.space.layers for part in (*layer.attention, *layer.ffn))
        types = dict.fromkeys(part.dtype for part in choices if part.dtype is not None)
        if not types:
            return
        fixes, span = [], self.call or self.ctx.span_of(self.export.where)
        call, count = re.subn(rf"dtype ?: ?{recipe}\b", "dtype: f16", self.written)
        if count == 1:
            fixes = [Fix.replace(span, call, safe=False)]
        said: Args = {"recipe": recipe, "types": listed([f"`{name}`" for name in types], "and")}
        self.ctx.report(RecipeOfQuantised(span, secondary=[self._label("what")], fixes=fixes, **said))

    def _report_lowered(self, where: Span, label: Label, rewritten: list[_Rewritten]) -> None:
        """Report all that an export rewrites in one diagnostic."""
        call, fixes = "lower: true", []
        if self.export.lower is None and self.call is not None and self.written.endswith(")"):
            call = f"{self.written[:-1].rstrip().removesuffix(',')}, lower: true)"
            fixes = [Fix.replace(self.call, call, safe=False)]
        first, notes = rewritten[0], []
        what, help = f"{first.what}: {first.layers}", f"it becomes {first.into}: {first.cost}; "
        allow = f"write `{call}` to allow it, or {first.drop}"
        if len(rewritten) > 1:
            what = listed([each.what for each in rewritten], "and")
            notes = [f"{e.what}, {e.layers}: becomes {e.into}, {e.cost}; or {e.drop}" for e in rewritten]
            help, allow = "", f"write `{call}` to allow all of it"
        kind = errors.IsLowered if self.export.lower is None else errors.LoweringRefused
        said: Args = {"runtime": RUNTIMES[self.export.runtime].title, "what": what}
        self.ctx.report(
            kind(where, secondary=[label], fixes=fixes, notes=notes, help=f"{help}{allow}", **said)
        )

    def _cost(self, architecture: Architecture, answer: Lowered, lack: Lack | None = None) -> str:
        """Describe the overhead of one lowered sub-block: `+12MiB and +0.4 % weights to read a token, a layer`."""
        shape = self.parent.shape
        own = shape if lack is None else (shape.base or shape).at(lack.layers[0])
        extra = extra_params(architecture, answer, own, None if lack is None else lack.alternative)
        size = format_quantity(round(extra * BYTES_PER_PARAM.get(self.export.dtype or "", 2)), BYTES)
        share = 100 * extra / total_params(shape)
        return (
            f"+{size} and +{share:.2g} % decode latency{' a layer' if lack and len(lack.layers) > 1 else ''}"
        )

    # ------------------------------------------------------------ what to write instead

    def _other_runtimes(self, choices: Choices) -> str:
        fits = {
            name: fit(r, self.parent.shape, choices, self.parent.computation) for name, r in RUNTIMES.items()
        }
        able = [name for name, found in fits.items() if not any(found.absent)]
        return f"write {listed([self._runtime(name) for name in able], 'or')}" if able else ""

    def _runtime(self, name: str) -> str:
        """Return how an export names another runtime: by `runtime:` in its own call, or by another call."""
        format_ = FORMATS[name]
        if format_ != "hf":
            return f'`{format_}("…")`'
        return f"`runtime: {name}`" if self.export.format == "hf" else f'`hf("…", runtime: {name})`'

    def _absent_help(self, lack: Lack) -> str:
        own = (self.parent.shape.base or self.parent.shape).at(lack.layers[0])
        able = [r.name for r in RUNTIMES.values() if _has(r.architectures, lack.alternative, own)]
        drop = f"drop `{lack.alternative.name}` from the space"
        if lack.kept:
            drop = f"replace `{lack.alternative.name}`, which the parent has, in those layers"
        return f"{drop}, or write {self._runtime(able[0])}" if able else drop


def _drop(lack: Lack) -> str:
    those = "that layer" if len(lack.layers) == 1 else "those layers"
    verb, preposition = ("replace", "in") if lack.kept else ("drop", "from")
    return f"{verb} `{lack.alternative.name}` {preposition} {those}"


def _has(architectures: tuple[Architecture, ...], alternative: Alternative, shape: nodes.Shape) -> bool:
    return any(alternative.served(a, shape, first=False).kind != "absent" for a in architectures)


# ---------------------------------------------------------------- engines that costs are measured in


def check_engines(ctx: Context, program: nodes.Program) -> None:
    """Report searched spaces with alternatives that the engine of one of the search's scenarios lacks or rounds."""
    searched: dict[tuple[str, str], nodes.Where] = {}
    of_searches = [(search.space, search) for search in program.searches.values()]
    of_frontiers = [(program.searches[f.search].space, f) for f in program.frontiers.values()]
    for space, node in (*of_searches, *of_frontiers):
        for name in dict.fromkeys(references(node)):
            if name in program.scenarios:
                searched.setdefault((space, name), node.where)
    for (space, scenario), where in searched.items():
        hardware = program.hardware[program.scenarios[scenario].hardware]
        engine = engine_of(hardware)
        if engine is None:
            continue
        span = ctx.span_of(hardware.where)
        beside = [Label(ctx.span_of(where), f"searches `{space}` by `{scenario}`")]
        said: Args = {"engine": engine.title, "space": space}
        if (rounded := _rounded(program.spaces[space], hardware, engine)) is not None:
            what, dtype = rounded
            ctx.report(errors.FullIsRounded(span, secondary=beside, what=what, dtype=dtype, **said))
        if any((fitted := fit_in(program, space, engine)).absent):
            what, reason = next(_absent(fitted))
            help = "measure in another engine: `measured(engine: torch)` runs everything"
            said |= {"what": what, "reason": reason, "help": help if what == FAMILY else None}
            ctx.report(errors.EngineLacksAlternative(span, secondary=beside, **said))


def _rounded(space: nodes.Space, hardware: nodes.Hardware, engine: Engine) -> tuple[str, str] | None:
    """Return an alternative without a type where the engine's file rounds it to few bits, in words, and the file's type."""
    spec = hardware.spec
    if not isinstance(spec, nodes.MeasuredHardware) or engine.weights[spec.dtype] >= SMALL_ROUNDING_BITS:
        return None
    for index, layer in enumerate(space.layers):
        for alternative in (*layer.attention, *layer.ffn):
            if alternative.dtype is None and alternative.kind != "noop":
                return f"`{alternative.name}` in {layers_in_words([index])}", spec.dtype
    return None


def _absent(fitted: Fit) -> Iterator[tuple[str, str]]:
    """Yield what is absent in words, with the reason."""
    for what, support in fitted.model:
        if isinstance(support, Absent):
            yield what, support.reason
    for lack in fitted.lacks:
        if isinstance(lack.support, Absent):
            yield f"`{lack.alternative.name}` in {layers_in_words(list(lack.layers))}", lack.support.reason
