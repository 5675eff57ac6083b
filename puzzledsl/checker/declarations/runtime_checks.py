"""Check of each `export` against the capabilities of its runtime, at check time, before any child exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.support import Absent, Architecture, Lowered
from puzzledsl.base.diagnostics import Diagnostic, Label, Span
from puzzledsl.base.phrases import layers_in_words, listed
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker.diagnostics.runtime_errors import (
    CannotRepresent,
    IsLowered,
    LoweringRefused,
    NoSuchFamily,
)
from puzzledsl.ir import nodes
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.runtimes import Choices, Lack, extra_params, fit
from puzzledsl.ir.source_location import span_of
from puzzledsl.language.calls import EXPORTS

WRITTEN = {
    call.arguments["runtime"].words[0]: f'`{name}("…")`' for name, call in EXPORTS.items() if name != "hf"
}
"""Runtime -> how an export names it, if not by `runtime`."""
BYTES_PER_PARAM = {"fp64": 8, "fp32": 4, "f32": 4, "tf32": 4, "fp8": 1, "int8": 1, "q8_0": 1.0625}


def check_exports(program: nodes.Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Return the diagnostics of what an export's space allows and its runtime lacks.

    Errors for alternatives that cannot be rewritten, or in an export with `lower: false`; warnings for those that are
    rewritten. `files` maps a place's file to its name in diagnostics.
    """
    found: list[Diagnostic] = []
    for export in program.exports.values():
        found += _check(program, export, lambda where: _span(where, files))
    return found


def _check(
    program: nodes.Program, export: nodes.Export, span: Callable[[nodes.Where], Span]
) -> Iterator[Diagnostic]:
    runtime = RUNTIMES[export.runtime]
    search = program.uptrains[export.of].search if export.of in program.uptrains else export.of
    space = program.spaces[program.searches[search].space]
    parent = program.parents[space.parent]
    where = span(export.runtime_where)
    choices = [(layer.attention, layer.ffn) for layer in space.layers]
    found = fit(runtime, parent.shape, choices)
    of_model = [
        NoSuchFamily(
            where,
            secondary=[Label(span(parent.where), "the parent")],
            help=_other_runtimes(parent.shape, choices),
            runtime=runtime.title,
            family=parent.shape.family,
            reason=answer.reason,
        )
        for _, answer in found.model
        if isinstance(answer, Absent)
    ]
    if of_model:
        yield of_model[0]
        return
    label = Label(span(space.where), f"{'used by' if space.used_by else 'what'} `{export.of}` may choose")
    common: dict[str, Any] = {"runtime": runtime.title}
    for what, answer in found.model:
        if isinstance(answer, Lowered):
            cost = _cost(found.architecture, answer, parent.shape, export)
            said = common | {"what": what, "layers": "the whole model", "into": answer.into, "cost": cost}
            yield from _lowered(export, where, [label], said | {"drop": "write `runtime: transformers`"})
    for lack in found.lacks:
        sub_block = "FFN" if lack.sub_block == "ffn" else "attention"
        said = common | {
            "what": f"`{lack.alternative.name}` {sub_block}",
            "layers": layers_in_words(list(lack.layers)),
        }
        match lack.support:
            case Absent(reason=reason):
                help = _absent_help(lack, parent.shape)
                yield CannotRepresent(where, secondary=[label], help=help, reason=reason, **said)
            case Lowered(into=into) as answer:
                cost = _cost(found.architecture, answer, parent.shape, export, lack)
                those = "that layer" if len(lack.layers) == 1 else "those layers"
                drop = f"{'replace' if lack.kept else 'drop'} `{lack.alternative.name}` {'in' if lack.kept else 'from'} {those}"
                yield from _lowered(export, where, [label], said | {"into": into, "cost": cost, "drop": drop})


def _other_runtimes(shape: nodes.Shape, choices: Choices) -> str:
    fits = {name: fit(runtime, shape, choices) for name, runtime in RUNTIMES.items()}
    able = [name for name, found in fits.items() if not any(found.absent)]
    return f"write {listed([WRITTEN.get(name, f'`runtime: {name}`') for name in able], 'or')}"


def _lowered(
    export: nodes.Export, where: Span, secondary: list[Label], said: dict[str, Any]
) -> Iterator[Diagnostic]:
    if export.lower is None:
        yield IsLowered(where, secondary=secondary, **said)
    elif not export.lower:
        yield LoweringRefused(where, secondary=secondary, **said)


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


def _absent_help(lack: Lack, shape: nodes.Shape) -> str:
    own = (shape.base or shape).at(lack.layers[0])
    able = [r.name for r in RUNTIMES.values() if _has(r.architectures, lack.alternative, own)]
    drop = f"drop `{lack.alternative.name}` from the space"
    if lack.kept:
        drop = f"replace `{lack.alternative.name}`, which the parent has, in those layers"
    return f"{drop}, or write `runtime: {able[0]}`" if able else drop


def _has(architectures: tuple[Architecture, ...], alternative: Alternative, shape: nodes.Shape) -> bool:
    return any(alternative.support(a, shape, first=False).kind != "absent" for a in architectures)


def _span(where: nodes.Where, files: Mapping[str, str]) -> Span:
    return span_of(where, files.get(where.file))
