"""Checks of what engines of searched costs lack or round, and of KV caches: some runtimes have one type for all layers."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.support import FAMILY, Absent
from puzzledsl.base.diagnostics import Args, Diagnostic, Label
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.checker.context import Context
from puzzledsl.ir import nodes, references
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.measured_engines import ENGINES, Engine
from puzzledsl.ir.runtimes import engine_of, fit_in, of_one_cache, unlike_cache

SMALL_ROUNDING_BITS = 8
"""Bits of a weight from which on the rounding of whole files changes little: `q8_0` of SmolLM2-135M has a KL of 0.004."""


class EngineLacksAlternative(Diagnostic, code="E1807", template="{engine} cannot run {what}: {reason}"):
    """A space is searched by costs of an engine that cannot run all of its children."""

    help_template = (
        "drop it from `{space}`, or measure in another engine: `measured(engine: torch)` runs everything"
    )


class FullIsRounded(Diagnostic, code="E1810"):
    """A space has alternatives without a type, and its costs are measured in a file that stores these in few bits."""

    template = (
        "{what} has no `dtype`: {engine} stores it in `{dtype}` here, and no score knows of that rounding"
    )
    help_template = "give it a `dtype` in `{space}`, or measure with `dtype: q8_0`"


class CacheNotCosted(Diagnostic, code="E1812"):
    """A space says how keys and values are stored, and the costs that search it are of another type."""

    template = (
        "{what} of `{space}` stores keys and values in `{own}`, and hardware `{hardware}` in `{stored}`"
    )


class NoOneCache(Diagnostic, code="E0476"):
    """An export to a runtime with one type of KV caches for all layers, of a space in which no child has one."""

    template = (
        "{runtime} stores the keys and values of all layers in one type, and no child of `{space}` does"
    )
    help_template = "give `{space}` a `kv_cache` that an attention of every layer has"


def check_engines(ctx: Context, program: nodes.Program) -> None:
    """Report searched spaces with alternatives that the hardware of one of the search's scenarios lacks or rounds."""
    searched: dict[tuple[str, str], tuple[nodes.Where, nodes.Hardware]] = {}
    for node, scenario, hardware in _scenarios(program):
        searched.setdefault((references.space_of(program, node), scenario), (node.where, hardware))
    for (space, scenario), (where, hardware) in searched.items():
        span = ctx.span_of(hardware.where)
        beside = [Label(ctx.span_of(where), f"searches `{space}` by `{scenario}`")]
        if (unlike := unlike_cache(program, space, hardware)) is not None:
            said = _not_costed(space, hardware, *unlike)
            ctx.report(CacheNotCosted(span, secondary=beside, **said))
            continue
        if (engine := engine_of(hardware)) is None:
            continue
        said = {"engine": engine.title, "space": space}
        if (rounded := _rounded(program.spaces[space], hardware, engine)) is not None:
            what, dtype = rounded
            ctx.report(FullIsRounded(span, secondary=beside, what=what, dtype=dtype, **said))
        if any((fitted := fit_in(program, space, engine)).absent):
            words = ((f"`{k.alternative.name}` in {layers_in_words([*k.layers])}", k) for k in fitted.lacks)
            absent = (*fitted.model, *((what, lack.support) for what, lack in words))
            what, reason = next((what, s.reason) for what, s in absent if isinstance(s, Absent))
            help = "measure in another engine: `measured(engine: torch)` runs everything"
            said |= {"what": what, "reason": reason, "help": help if what == FAMILY else None}
            ctx.report(EngineLacksAlternative(span, secondary=beside, **said))


def _scenarios(program: nodes.Program) -> Iterator[tuple[nodes.Search | nodes.Frontier, str, nodes.Hardware]]:
    """Yield each search and frontier with a scenario that it mentions, and its hardware."""
    readers: list[nodes.Search | nodes.Frontier] = [*program.searches.values(), *program.frontiers.values()]
    for node in readers:
        for scenario in filter(program.scenarios.__contains__, references.references(node)):
            yield node, scenario, program.hardware[program.scenarios[scenario].hardware]


def _rounded(space: nodes.Space, hardware: nodes.Hardware, engine: Engine) -> tuple[str, str] | None:
    """Return an alternative without a type where the engine's file rounds it to few bits, in words, and the file's type."""
    spec = hardware.spec
    if not isinstance(spec, nodes.MeasuredHardware) or engine.weights[spec.dtype] >= SMALL_ROUNDING_BITS:
        return None
    for index, layer in enumerate(space.layers):
        for alternative in (*layer.attention, *layer.ffn):
            if alternative.dtype is None and not alternative.removes:
                return f"`{alternative.name}` in {layers_in_words([index])}", spec.dtype
    return None


def _not_costed(space: str, hardware: nodes.Hardware, layer: int, alternative: Alternative) -> Args:
    """Return what a diagnostic says of a hardware that stores keys and values in another type than a space."""
    spec, name = hardware.spec, hardware.name
    assert not isinstance(spec, nodes.TableHardware)
    help = f"write `kv_cache: bf16` in `{name}`: then `{space}` alone says where keys and values are rounded"
    if isinstance(spec, nodes.MeasuredHardware):
        engine = ENGINES[spec.engine]
        listed = " or ".join(f"`{cache}`" for cache in engine.caches)
        help = f"{engine.title} stores them in {listed}; cost `{space}` by a profile"
        if alternative.cache is None:
            help = f"leave `kv_cache` out of `{name}`: then `{space}` alone says where they are rounded"
    said: Args = {"what": f"`{alternative.name}` in {layers_in_words([layer])}", "space": space, "help": help}
    return {**said, "own": alternative.cache or FULL, "hardware": name, "stored": spec.kv_dtype}


def with_one_cache(ctx: Context, program: nodes.Program) -> nodes.Program:
    """Return the program whose searches keep to one type of KV caches where a runtime has one for all layers.

    That is the runtime of an export of their children, or of measured costs. Report spaces in which no child has one.
    """
    changed: dict[str, nodes.Search] = {}
    for name, runtime, where in _served(program):
        search = changed.get(name, program.searches[name])
        space = program.spaces[search.space]
        ways = of_one_cache(space, program.parents[space.parent].shape)
        if space in ways.values() or not RUNTIMES[runtime].one_cache:
            continue
        if not ways:
            said: Args = {"runtime": RUNTIMES[runtime].title, "space": space.name}
            ctx.report(NoOneCache(ctx.span_of(where), **said))
        rule = nodes.LogicRequirement(
            formula=nodes.Or(operands=tuple(map(_is_in, ways.values()))),
            because=f"{RUNTIMES[runtime].title} has one type for all layers",
            where=where.model_copy(update={"text": "one `kv_cache`"}),
        )
        kept = search.requirements
        if rule.formula not in [r.formula for r in kept if isinstance(r, nodes.LogicRequirement)]:
            changed[name] = search.model_copy(update={"requirements": (*kept, rule)})
    return program.model_copy(update={"searches": {**program.searches, **changed}}) if changed else program


def _served(program: nodes.Program) -> Iterator[tuple[str, str, nodes.Where]]:
    """Yield each search with a runtime of its children, and the place that names it."""
    for export in program.exports.values():
        yield references.search_behind(program, export.of), export.runtime, export.runtime_where
    for node, _, hardware in _scenarios(program):
        if (engine := engine_of(hardware)) is not None:
            search = node.search if isinstance(node, nodes.Frontier) else node.name
            yield search, engine.name, hardware.where


def _is_in(space: nodes.Space) -> nodes.Logic:
    """Return the statement that a child is one of a space's, by its attentions."""
    names = (tuple(each.name for each in layer.attention) for layer in space.layers)
    parts = (nodes.Is(layer=i, sub_block="attention", alternatives=of) for i, of in enumerate(names))
    return nodes.And(operands=tuple(parts))
