"""Check of each `export` against the capabilities of its runtime, at check time, before any child exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.support import Absent, Lowered
from puzzledsl.base.diagnostics import Diagnostic, Label, Span
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker.diagnostics.runtime_errors import (
    CannotRepresent,
    IsLowered,
    LoweringRefused,
    NoSuchFamily,
)
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.runtimes import RUNTIMES, Runtime, extra_params, family_support
from puzzledsl.ir.source_location import span_of

BYTES_PER_PARAM = {"fp64": 8, "fp32": 4, "f32": 4, "tf32": 4, "fp8": 1, "int8": 1, "q8_0": 1.0625}


def check_exports(program: nodes.Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Return the diagnostics of alternatives that an export's space allows and its runtime lacks.

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
    label = Label(span(space.where), f"{'used by' if space.used_by else 'what'} `{export.of}` may choose")
    family = family_support(runtime, parent.shape.family)
    if isinstance(family, Absent):
        arguments: dict[str, Any] = {
            "runtime": runtime.title,
            "family": parent.shape.family,
            "reason": family.reason,
        }
        yield NoSuchFamily(where, secondary=[Label(span(parent.where), "the parent")], **arguments)
        return
    for sub_block, alternative, layers in _used(space, runtime):
        answer = alternative.support(runtime.name, first=layers == [0])
        what = f"`{alternative.name}` {'FFN' if sub_block == 'ffn' else 'attention'}"
        common: dict[str, Any] = {
            "runtime": runtime.title,
            "version": runtime.version,
            "what": what,
            "layers": layers_in_words(layers),
        }
        if isinstance(answer, Absent):
            help = _absent_help(runtime, alternative)
            yield CannotRepresent(where, secondary=[label], help=help, reason=answer.reason, **common)
        elif isinstance(answer, Lowered):
            cost = _cost(runtime, answer, parent.shape, export, len(layers))
            drop = f"drop `{alternative.name}` from {'that layer' if len(layers) == 1 else 'those layers'}"
            arguments = common | {"into": answer.into, "cost": cost, "drop": drop}
            if export.lower is None:
                yield IsLowered(where, secondary=[label], **arguments)
            elif not export.lower:
                yield LoweringRefused(where, secondary=[label], **arguments)


def _used(space: nodes.Space, runtime: Runtime) -> list[tuple[SubBlock, Alternative, list[int]]]:
    """Return the alternatives that the space allows and the runtime lacks, each with its layers.

    An alternative that the runtime lacks only in the first layer is an entry of its own.
    """
    found: dict[tuple[SubBlock, Alternative, bool], list[int]] = {}
    for index, choice in enumerate(space.layers):
        for alternative in choice.attention:
            native_here = alternative.support(runtime.name, first=index == 0).kind == "native"
            if not native_here:
                only_first = alternative.support(runtime.name, first=False).kind == "native"
                found.setdefault(("attention", alternative, only_first), []).append(index)
        for ffn in choice.ffn:
            if ffn.support(runtime.name, first=False).kind != "native":
                found.setdefault(("ffn", ffn, False), []).append(index)
    return [(sub_block, alternative, layers) for (sub_block, alternative, _), layers in found.items()]


def _cost(runtime: Runtime, answer: Lowered, shape: nodes.Shape, export: nodes.Export, layers: int) -> str:
    """Describe the overhead of one lowered sub-block: `+12MiB and +0.4 % weights to read a token, a layer`."""
    extra = extra_params(runtime, answer, shape)
    size = format_quantity(round(extra * BYTES_PER_PARAM.get(export.dtype or "", 2)), BYTES)
    share = 100 * extra / total_params(shape)
    return f"+{size} and +{share:.2g} % decode latency{' a layer' if layers > 1 else ''}"


def _absent_help(runtime: Runtime, alternative: Alternative) -> str:
    able = [r.name for r in RUNTIMES.values() if alternative.support(r.name, first=False).kind != "absent"]
    drop = f"drop `{alternative.name}` from the space"
    return f"{drop}, or write `runtime: {able[0]}`" if able else drop


def _span(where: nodes.Where, files: Mapping[str, str]) -> Span:
    return span_of(where, files.get(where.file))
