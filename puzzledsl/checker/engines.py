"""Checks of what runtimes cannot run or store: the runtimes of exports, and the engines in which searched costs are measured."""

import re
from collections.abc import Iterator

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.support import FAMILY, Absent, Architecture, Lowered
from puzzledsl.base.diagnostics import Args, Fix, Label, Mistake, RecipeOfQuantised, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import layers_in_words, listed
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.ir import nodes, references, runtimes
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.measured_engines import ENGINES, RECIPES, Engine
from puzzledsl.ir.stage_nodes import EXPORTS
from puzzledsl.syntax import tree

SMALL_ROUNDING_BITS = 8
"""Bits of a weight from which on the rounding of whole files changes little: `q8_0` of SmolLM2-135M has a KL of 0.004."""


EngineLacksAlternative = Mistake(
    "E1807",
    "{engine} cannot run {what}: {reason}",
    "drop it from `{space}`, or measure in another engine: `measured(engine: torch)` runs everything",
)
FullIsRounded = Mistake(
    "E1810",
    "{what} has no `dtype`: {engine} stores it in `{dtype}` here, and no score knows of that rounding",
    "give it a `dtype` in `{space}`, or measure with `dtype: q8_0`",
)
CacheNotCosted = Mistake(
    "E1812", "{what} of `{space}` stores keys and values in `{own}`, and hardware `{hardware}` in `{stored}`"
)
NoOneCache = Mistake(
    "E0476",
    "{runtime} stores the keys and values of all layers in one type, and no child of `{space}` does",
    "give `{space}` a `kv_cache` that an attention of every layer has",
)


def check_engines(ctx: Context, program: nodes.Program) -> None:
    """Report searched spaces with alternatives that the hardware of one of the search's scenarios lacks or rounds."""
    searched: dict[tuple[str, str], tuple[nodes.Where, nodes.Hardware]] = {}
    for node, scenario, hardware in _scenarios(program):
        searched.setdefault((references.space_of(program, node), scenario), (node.where, hardware))
    for (space, scenario), (where, hardware) in searched.items():
        span = ctx.span_of(hardware.where)
        beside = [Label(ctx.span_of(where), f"searches `{space}` by `{scenario}`")]
        if (unlike := runtimes.unlike_cache(program, space, hardware)) is not None:
            said = _not_costed(space, hardware, *unlike)
            ctx.report(CacheNotCosted(span, secondary=beside, **said))
            continue
        if (engine := runtimes.engine_of(hardware)) is None:
            continue
        said = {"engine": engine.title, "space": space}
        if (rounded := _rounded(program.spaces[space], hardware, engine)) is not None:
            what, dtype = rounded
            ctx.report(FullIsRounded(span, secondary=beside, what=what, dtype=dtype, **said))
        if any((fitted := runtimes.fit_in(program, space, engine)).absent):
            words = ((f"`{k.alternative.name}` in {layers_in_words([*k.layers])}", k) for k in fitted.lacks)
            absent = (*fitted.model, *((what, lack.support) for what, lack in words))
            what, reason = next((what, s.reason) for what, s in absent if isinstance(s, Absent))
            help = "measure in another engine: `measured(engine: torch)` runs everything"
            said |= {"what": what, "reason": reason, "help": help if what == FAMILY else None}
            ctx.report(EngineLacksAlternative(span, secondary=beside, **said))


def _scenarios(program: nodes.Program) -> Iterator[tuple[nodes.Search | nodes.Frontier, str, nodes.Hardware]]:
    """Yield each search and frontier with each scenario that it mentions, and the scenario's hardware."""
    readers: list[nodes.Search | nodes.Frontier] = [*program.searches.values(), *program.frontiers.values()]
    for node in readers:
        for scenario in filter(program.scenarios.__contains__, references.references(node)):
            yield node, scenario, program.hardware[program.scenarios[scenario].hardware]


def _rounded(space: nodes.Space, hardware: nodes.Hardware, engine: Engine) -> tuple[str, str] | None:
    """Return the first alternative without a `dtype`, in words, and the type of few bits that stores it; None if none does."""
    spec = hardware.spec
    if not isinstance(spec, nodes.MeasuredHardware) or engine.weights[spec.dtype] >= SMALL_ROUNDING_BITS:
        return None
    for index, layer in enumerate(space.layers):
        for alternative in (*layer.attention, *layer.ffn):
            if alternative.dtype is None and not alternative.removes:
                return f"`{alternative.name}` in {layers_in_words([index])}", spec.dtype
    return None


def _not_costed(space: str, hardware: nodes.Hardware, layer: int, alternative: Alternative) -> Args:
    """Return the arguments of CacheNotCosted: `hardware` stores keys and values in another type than `alternative` does."""
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
    """Return the program with searches that require one type of KV cache if their runtime has one for all layers.

    The runtime is that of an export of their children, or of their measured costs. Report spaces in which no child has one type.
    """
    changed: dict[str, nodes.Search] = {}
    for name, runtime, where in _served(program):
        search = changed.get(name, program.searches[name])
        space = program.spaces[search.space]
        ways = runtimes.of_one_cache(space, program.parents[space.parent].shape)
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
    """Yield each search with each runtime of its children (of an export or of measured costs), and the place that names it."""
    for export in program.exports.values():
        yield references.search_behind(program, export.of), export.runtime, export.runtime_where
    for node, _, hardware in _scenarios(program):
        if (engine := runtimes.engine_of(hardware)) is not None:
            search = node.search if isinstance(node, nodes.Frontier) else node.name
            yield search, engine.name, hardware.where


def _is_in(space: nodes.Space) -> nodes.Logic:
    """Return the statement that the attention of every layer is one that `space` has there."""
    names = (tuple(each.name for each in layer.attention) for layer in space.layers)
    parts = (nodes.Is(layer=i, sub_block="attention", alternatives=of) for i, of in enumerate(names))
    return nodes.And(operands=tuple(parts))


def alternatives_of(space: nodes.Space) -> Iterator[Alternative]:
    """Yield the alternatives of every layer's attention and FFN."""
    return (each for layer in space.layers for each in (*layer.attention, *layer.ffn))


BYTES_PER_PARAM = {"fp64": 8, "fp32": 4, "f32": 4, "tf32": 4, "fp8": 1, "int8": 1, "q8_0": 1.0625} | {
    recipe.name: recipe.bits / 8 for recipe in RECIPES.values()
}


def check_exports(ctx: Context, program: nodes.Program) -> None:
    """Report what an export's space allows and its runtime lacks: a warning for a rewrite if `lower` is not set, or an error."""
    for export in program.exports.values():
        space = program.spaces[references.space_of(program, export)]
        item = ctx.taken[export.name].item
        value = item.value if isinstance(item, tree.Decl) else None
        # the call of an export that has its own, not one that a `let` holds
        call = value.span if isinstance(value, tree.Call) else None
        _ExportCheck(ctx, export, space, program.parents[space.parent], call).report()


class _ExportCheck(Record):
    """Check of one export. `call` is the place of its call, if it has its own."""

    ctx: Context
    export: nodes.Export
    space: nodes.Space
    parent: nodes.Parent
    call: Span | None

    @property
    def written(self) -> str:
        """The call of the export on one line; empty if a comment stands in it, or if a `let` holds it."""
        text = "" if self.call is None else " ".join(self.ctx.source(self.call).split())
        return "" if "#" in text else text

    def report(self) -> None:
        """Report what the runtime lacks, and a recipe for a space that chooses types itself."""
        ctx, export, parent, space = self.ctx, self.export, self.parent, self.space
        runtime, where = RUNTIMES[export.runtime], ctx.span_of(export.runtime_where)
        types = dict.fromkeys(each.dtype for each in alternatives_of(space) if each.dtype is not None)
        if types and export.dtype in RECIPES:  # which chooses the type of every matrix
            span = self.call or ctx.span_of(export.where)
            call, count = re.subn(rf"dtype ?: ?{export.dtype}\b", "dtype: f16", self.written)
            fixes = [Fix.replace(span, call, safe=False)] if count == 1 else []
            named: Args = {"recipe": export.dtype, "types": listed([f"`{name}`" for name in types], "and")}
            beside = [self._label("what")]
            ctx.report(RecipeOfQuantised(span, secondary=beside, fixes=fixes, **named))
        choices = [(layer.attention, layer.ffn) for layer in space.layers]
        found = runtimes.fit(runtime, parent.shape, choices, parent.computation)
        absent = [answer.reason for _, answer in found.model if isinstance(answer, Absent)]
        for reason in absent[:1] if found.absent[0] else absent:
            said: Args = {"runtime": runtime.title, "family": parent.shape.family, "reason": reason}
            beside = [Label(ctx.span_of(parent.where), "the parent")]
            help = f"write {self._runtime('transformers')}"
            ctx.report(errors.NoSuchFamily(where, secondary=beside, help=help, **said))
        if absent:
            return
        label = self._label("used by" if space.used_by else "what")
        # what is lacked, where, what it becomes, at what cost, and how to do without
        drop, rewritten = f"write {self._runtime('transformers')}", list[tuple[str, str, str, str, str]]()
        for what, answer in found.model:
            if isinstance(answer, Lowered):
                cost = self._cost(found.architecture, answer)
                rewritten.append((what, "the whole model", answer.into, cost, drop))
        for lack in found.lacks:
            what = f"`{lack.alternative.name}` {'FFN' if lack.sub_block == 'ffn' else 'attention'}"
            layers, support = layers_in_words(list(lack.layers)), lack.support
            if isinstance(support, Absent):
                said = {"runtime": runtime.title, "what": what, "layers": layers, "reason": support.reason}
                name = f"`{lack.alternative.name}`"
                way = (
                    f"replace {name}, which the parent has, in those layers"
                    if lack.kept
                    else f"drop {name} from the space"
                )
                elsewhere = [f"write {named}" for named in self._that_have(lack.alternative, choices)]
                help = ", or ".join([way, *elsewhere[:1]])
                ctx.report(errors.CannotRepresent(where, secondary=[label], help=help, **said))
            elif isinstance(support, Lowered):
                cost = self._cost(found.architecture, support, lack)
                those = "that layer" if len(lack.layers) == 1 else "those layers"
                verb, joined = ("replace", "in") if lack.kept else ("drop", "from")
                drop = f"{verb} `{lack.alternative.name}` {joined} {those}"
                rewritten.append((what, layers, support.into, cost, drop))
        if not rewritten or export.lower:
            return
        call, fixes = "lower: true", []
        if export.lower is None and self.call is not None and self.written.endswith(")"):
            call = f"{self.written[:-1].rstrip().removesuffix(',')}, lower: true)"
            fixes = [Fix.replace(self.call, call, safe=False)]
        (what, layers, into, cost, drop), notes = rewritten[0], list[str]()
        shown, help = f"{what}: {layers}", f"it becomes {into}: {cost}; "
        allow = f"write `{call}` to allow it, or {drop}"
        if len(rewritten) > 1:
            shown = listed([each[0] for each in rewritten], "and")
            notes = ["{}, {}: becomes {}, {}; or {}".format(*each) for each in rewritten]
            help, allow = "", f"write `{call}` to allow all of it"
        kind = errors.IsLowered if export.lower is None else errors.LoweringRefused
        said = {"runtime": runtime.title, "what": shown, "notes": notes}
        ctx.report(kind(where, secondary=[label], fixes=fixes, help=f"{help}{allow}", **said))

    def _label(self, what: str) -> Label:
        return Label(self.ctx.span_of(self.space.where), f"{what} `{self.export.of}` may choose")

    def _cost(self, architecture: Architecture, answer: Lowered, lack: runtimes.Lack | None = None) -> str:
        """Describe what a rewrite of `lack`, else of the whole model, adds: `+12MiB and +0.4 % decode latency a layer`."""
        shape = self.parent.shape
        own = shape if lack is None else (shape.base or shape).at(lack.layers[0])
        extra = runtimes.extra_params(architecture, answer, own, None if lack is None else lack.alternative)
        size = format_quantity(round(extra * BYTES_PER_PARAM.get(self.export.dtype or "", 2)), BYTES)
        share, each = 100 * extra / total_params(shape), " a layer" if lack and len(lack.layers) > 1 else ""
        return f"+{size} and +{share:.2g} % decode latency{each}"

    def _that_have(self, alternative: Alternative, choices: runtimes.Choices) -> Iterator[str]:
        """Yield each runtime that has the model and `alternative`, as an export would name it."""
        for format, call in EXPORTS.items():
            for name in call.arguments["runtime"].words:
                found = runtimes.fit(RUNTIMES[name], self.parent.shape, choices, self.parent.computation)
                lacked = [lack.alternative for lack in found.lacks if isinstance(lack.support, Absent)]
                if alternative not in lacked and not any(isinstance(each, Absent) for _, each in found.model):
                    yield self._runtime(name) if format == "hf" else f'`{format}("…")`'

    def _runtime(self, name: str) -> str:
        """Return how an export names another runtime of `hf`: by `runtime:` in its own call, or by another call."""
        return f"`runtime: {name}`" if self.export.format == "hf" else f'`hf("…", runtime: {name})`'
