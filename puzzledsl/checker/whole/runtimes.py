"""Check of each `export`, and of each engine that costs are measured in, against the space, before any child exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.support import FAMILY, Absent, Architecture, Lowered
from puzzledsl.base.diagnostics import Diagnostic, Fix, Label, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import layers_in_words, listed
from puzzledsl.base.stage_errors import RecipeOfQuantised
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker.diagnostics.engine_errors import EngineLacksAlternative, FullIsRounded
from puzzledsl.checker.diagnostics.runtime_errors import (
    CannotRepresent,
    IsLowered,
    LoweringRefused,
    NoSuchFamily,
)
from puzzledsl.ir import nodes
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.measured_engines import Engine
from puzzledsl.ir.recipes import RECIPES
from puzzledsl.ir.references import references
from puzzledsl.ir.runtimes import Choices, Fit, Lack, engine_of, extra_params, fit, fit_in
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.stage_nodes import EXPORTS

FORMATS = {runtime: name for name, call in EXPORTS.items() for runtime in call.arguments["runtime"].words}
"""Runtime -> the export format that is for it."""
BYTES_PER_PARAM = {"fp64": 8, "fp32": 4, "f32": 4, "tf32": 4, "fp8": 1, "int8": 1, "q8_0": 1.0625} | {
    recipe.name: recipe.bits / 8 for recipe in RECIPES.values()
}

SMALL_ROUNDING_BITS = 8
"""Bits of a weight from which on the rounding of whole files changes little: `q8_0` of SmolLM2-135M has a KL of 0.004."""


@record
class Written:
    """The call of an export as it is written."""

    text: str
    span: Span


def check_exports(
    program: nodes.Program, files: Mapping[str, str], calls: Mapping[str, Written]
) -> list[Diagnostic]:
    """Return the diagnostics of what an export's space allows and its runtime lacks.

    Errors for alternatives that cannot be rewritten, or in an export with `lower: false`; warnings for those that are
    rewritten. `files` maps a place's file to its name in diagnostics; `calls` has the calls of the exports.
    """
    found: list[Diagnostic] = []
    for export in program.exports.values():
        found += _check(program, export, lambda where: _span(where, files), calls.get(export.name))
    return found


def _check(
    program: nodes.Program, export: nodes.Export, span: Callable[[nodes.Where], Span], written: Written | None
) -> Iterator[Diagnostic]:
    runtime, space = RUNTIMES[export.runtime], space_of(program, export)
    if export.dtype in RECIPES:
        yield from _recipe(export, space, span, written)
    parent = program.parents[space.parent]
    where = span(export.runtime_where)
    choices = [(layer.attention, layer.ffn) for layer in space.layers]
    found = fit(runtime, parent.shape, choices, parent.computation)
    of_model = [
        NoSuchFamily(
            where,
            secondary=[Label(span(parent.where), "the parent")],
            help=_other_runtimes(export, parent, choices),
            runtime=runtime.title,
            family=parent.shape.family,
            reason=answer.reason,
        )
        for _, answer in found.model
        if isinstance(answer, Absent)
    ]
    if of_model:
        yield from of_model[:1] if found.absent[0] else of_model
        return
    label = Label(span(space.where), f"{'used by' if space.used_by else 'what'} `{export.of}` may choose")
    rewritten = [
        _Rewritten(
            what,
            "the whole model",
            answer.into,
            _cost(found.architecture, answer, parent.shape, export),
            f"write {_runtime(export, 'transformers')}",
        )
        for what, answer in found.model
        if isinstance(answer, Lowered)
    ]
    for lack in found.lacks:
        what = f"`{lack.alternative.name}` {'FFN' if lack.sub_block == 'ffn' else 'attention'}"
        layers = layers_in_words(list(lack.layers))
        match lack.support:
            case Absent(reason=reason):
                help = _absent_help(export, lack, parent.shape)
                said: dict[str, Any] = {
                    "runtime": runtime.title,
                    "what": what,
                    "layers": layers,
                    "reason": reason,
                }
                yield CannotRepresent(where, secondary=[label], help=help, **said)
            case Lowered(into=into) as answer:
                cost = _cost(found.architecture, answer, parent.shape, export, lack)
                rewritten.append(_Rewritten(what, layers, into, cost, _drop(lack)))
    if rewritten:
        yield from _lowered(export, where, label, rewritten, written)


def _recipe(
    export: nodes.Export, space: nodes.Space, span: Callable[[nodes.Where], Span], written: Written | None
) -> Iterator[Diagnostic]:
    """Report storage types of sub-blocks beside a recipe that chooses every matrix's."""
    choices = (part for layer in space.layers for part in (*layer.attention, *layer.ffn))
    types = dict.fromkeys(part.dtype for part in choices if part.dtype is not None)
    if not types or export.dtype is None:
        return
    fixes = []
    if written is not None and "#" not in written.text:
        call, count = re.subn(rf"dtype ?: ?{export.dtype}\b", "dtype: f16", written.text)
        fixes = [Fix.replace(written.span, call, safe=False)] if count == 1 else []
    yield RecipeOfQuantised(
        span(export.where) if written is None else written.span,
        secondary=[Label(span(space.where), f"what `{export.of}` may choose")],
        fixes=fixes,
        recipe=export.dtype,
        types=listed([f"`{name}`" for name in types], "and"),
    )


def space_of(program: nodes.Program, export: nodes.Export) -> nodes.Space:
    """Return the space of the search that an export is of."""
    search = program.uptrains[export.of].search if export.of in program.uptrains else export.of
    return program.spaces[program.searches[search].space]


@record
class _Rewritten:
    """One thing that a runtime lacks: what it becomes, at what cost, and how to do without it."""

    what: str
    layers: str
    into: str
    cost: str
    drop: str


def _drop(lack: Lack) -> str:
    those = "that layer" if len(lack.layers) == 1 else "those layers"
    verb, preposition = ("replace", "in") if lack.kept else ("drop", "from")
    return f"{verb} `{lack.alternative.name}` {preposition} {those}"


def _other_runtimes(export: nodes.Export, parent: nodes.Parent, choices: Choices) -> str:
    fits = {name: fit(r, parent.shape, choices, parent.computation) for name, r in RUNTIMES.items()}
    able = [name for name, found in fits.items() if not any(found.absent)]
    return f"write {listed([_runtime(export, name) for name in able], 'or')}" if able else ""


def _runtime(export: nodes.Export, name: str) -> str:
    """Return how an export names another runtime: by `runtime:` in its own call, or by another call."""
    format_ = FORMATS[name]
    if format_ != "hf":
        return f'`{format_}("…")`'
    return f"`runtime: {name}`" if export.format == "hf" else f'`hf("…", runtime: {name})`'


def _lowered(
    export: nodes.Export, where: Span, label: Label, rewritten: list[_Rewritten], written: Written | None
) -> Iterator[Diagnostic]:
    """Report all that an export rewrites in one diagnostic; nothing where `lower: true` allows it."""
    if export.lower:
        return
    call, fixes = "lower: true", []
    if (
        export.lower is None
        and written is not None
        and written.text.endswith(")")
        and "#" not in written.text
    ):
        call = f"{written.text[:-1].rstrip().removesuffix(',')}, lower: true)"
        fixes = [Fix.replace(written.span, call, safe=False)]
    first, notes = rewritten[0], []
    what, help = f"{first.what}: {first.layers}", f"it becomes {first.into}: {first.cost}"
    allow = f"write `{call}` to allow it, or {first.drop}"
    if len(rewritten) > 1:
        what = listed([each.what for each in rewritten], "and")
        notes = [f"{e.what}, {e.layers}: becomes {e.into}, {e.cost}; or {e.drop}" for e in rewritten]
        help, allow = "", f"write `{call}` to allow all of it"
    said: dict[str, Any] = {"runtime": RUNTIMES[export.runtime].title, "what": what}
    said["help"] = f"{help}; {allow}" if help else allow
    kind = IsLowered if export.lower is None else LoweringRefused
    yield kind(where, secondary=[label], fixes=fixes, notes=notes, **said)


def _cost(
    architecture: Architecture,
    answer: Lowered,
    shape: nodes.Shape,
    export: nodes.Export,
    lack: Lack | None = None,
) -> str:
    """Describe the overhead of one lowered sub-block: `+12MiB and +0.4 % weights to read a token, a layer`."""
    own = shape if lack is None else (shape.base or shape).at(lack.layers[0])
    extra = extra_params(architecture, answer, own, None if lack is None else lack.alternative)
    size = format_quantity(round(extra * BYTES_PER_PARAM.get(export.dtype or "", 2)), BYTES)
    share = 100 * extra / total_params(shape)
    return f"+{size} and +{share:.2g} % decode latency{' a layer' if lack and len(lack.layers) > 1 else ''}"


def _absent_help(export: nodes.Export, lack: Lack, shape: nodes.Shape) -> str:
    own = (shape.base or shape).at(lack.layers[0])
    able = [r.name for r in RUNTIMES.values() if _has(r.architectures, lack.alternative, own)]
    drop = f"drop `{lack.alternative.name}` from the space"
    if lack.kept:
        drop = f"replace `{lack.alternative.name}`, which the parent has, in those layers"
    return f"{drop}, or write {_runtime(export, able[0])}" if able else drop


def _has(architectures: tuple[Architecture, ...], alternative: Alternative, shape: nodes.Shape) -> bool:
    return any(alternative.served(a, shape, first=False).kind != "absent" for a in architectures)


def _span(where: nodes.Where, files: Mapping[str, str]) -> Span:
    return span_of(where, files.get(where.file))


# ---------------------------------------------------------------- engines that costs are measured in


def check_engines(program: nodes.Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Return an error for each searched space with alternatives that the engine of one of the search's scenarios lacks."""
    searched: dict[tuple[str, str], nodes.Where] = {}
    for search in program.searches.values():
        for name in _scenarios(program, search):
            searched.setdefault((search.space, name), search.where)
    for frontier in program.frontiers.values():
        for name in _scenarios(program, frontier):
            searched.setdefault((program.searches[frontier.search].space, name), frontier.where)
    found: list[Diagnostic] = []
    for (space, scenario), where in searched.items():
        hardware = program.hardware[program.scenarios[scenario].hardware]
        if (engine := engine_of(hardware)) is None:
            continue
        span = span_of(hardware.where, files.get(hardware.where.file))
        label = Label(span_of(where, files.get(where.file)), f"searches `{space}` by `{scenario}`")
        if (rounded := _rounded(program.spaces[space], hardware, engine)) is not None:
            what, dtype = rounded
            found.append(
                FullIsRounded(
                    span, secondary=[label], what=what, engine=engine.title, dtype=dtype, space=space
                )
            )
        if any((fitted := fit_in(program, space, engine)).absent):
            what, reason = next(_absent(fitted))
            found.append(
                EngineLacksAlternative(
                    span,
                    secondary=[label],
                    help="measure in another engine: `measured(engine: torch)` runs everything"
                    if what == FAMILY
                    else None,
                    engine=engine.title,
                    what=what,
                    space=space,
                    reason=reason,
                )
            )
    return found


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


def _scenarios(program: nodes.Program, node: nodes.Search | nodes.Frontier) -> Iterator[str]:
    return (name for name in dict.fromkeys(references(node)) if name in program.scenarios)


def _absent(fitted: Fit) -> Iterator[tuple[str, str]]:
    """Yield what is absent in words, with the reason."""
    for what, support in fitted.model:
        if isinstance(support, Absent):
            yield what, support.reason
    for lack in fitted.lacks:
        if isinstance(lack.support, Absent):
            yield f"`{lack.alternative.name}` in {layers_in_words(list(lack.layers))}", lack.support.reason
