"""Checks of a whole program: what later stages need, and what the runtimes of exports lack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, served
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.alternatives.support import Absent, Architecture, Lowered
from puzzledsl.base import diagnostics as stage_errors
from puzzledsl.base.diagnostics import Args, Fix, Label, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.gguf_tokenizers import objection
from puzzledsl.base.phrases import layers_in_words, listed
from puzzledsl.base.resources import entry_points
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.engines import check_engines
from puzzledsl.ir import nodes, references
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.measured_engines import RECIPES
from puzzledsl.ir.runtimes import Lack, extra_params, fit
from puzzledsl.ir.stage_nodes import EXPORTS
from puzzledsl.syntax import tree

MODULES = "puzzledsl.models.alternatives"
"""Entry points of the modules of packages' alternatives."""


def check_whole(ctx: Context, program: nodes.Program) -> None:
    """Report what a later stage cannot do, of a program whose declarations have no mistakes."""
    for search in program.searches.values():
        if search.refine:
            _check_refine(ctx, program, search, ctx.span_of(search.refine.where))
    for check in (_judges, _built, _ends, _exports, check_engines, _tokenizers, _pieces):
        check(ctx, program)


def _judges(ctx: Context, program: nodes.Program) -> None:
    """Report judges of the files that something else reads: a child is chosen by other documents than it is reported on."""
    readers = references.readers_of(program) if program.judges else {}
    for judge in program.judges.values():
        data = program.data[judge.data]
        met = [name for name in readers if references.overlap(program.data[name], data)]
        found = [("documents", reader) for reader in dict.fromkeys(r for name in met for r in readers[name])]
        same = (e.name for e in program.evals.values() if {*e.tasks} & {*judge.tasks})
        for what, reader in (found or [("questions", f"eval `{name}`") for name in same])[:1]:
            said: Args = {"judge": judge.name, "what": what, "reader": reader, "found": ""}
            ctx.report(stage_errors.JudgedOnWhatIsRead(ctx.span_of(judge.where), **said))


def _built(ctx: Context, program: nodes.Program) -> None:
    """Report declarations that need the child of a search that builds none."""
    if all(search.realise for search in program.searches.values()):
        return
    for declared in (program.uptrains, program.evals, program.exports):
        for kind, declaration in ((type(d).__name__.lower(), d) for d in declared.values()):
            wanted = [declaration.search if isinstance(declaration, nodes.Uptrain) else declaration.of]
            wanted += declaration.full if isinstance(declaration, nodes.Eval) else ()
            for name in dict.fromkeys(wanted):
                if name in program.searches and not program.searches[name].realise:
                    said: Args = {"what": f"{kind} `{declaration.name}`", "search": name}
                    ctx.report(errors.NotBuilt(ctx.span_of(declaration.where), **said))


def _ends(ctx: Context, program: nodes.Program) -> None:
    """Report what does not take the ends of a model in another type: costs that are not a profile's, and later stages."""
    for space in program.spaces.values():
        if space.ends is None:
            continue
        ends = " and ".join(site for site, choice in space.ends if any(not end.is_parent for end in choice))
        for where, what, why, help in _without_ends(program, space):
            said: Args = {"what": what, "ends": ends, "space": space.name, "why": why}
            said["help"] = f"{help}, or leave {ends} out of the space"
            ctx.report(stage_errors.EndsNotTaken(ctx.span_of(where), **said))


def _without_ends(program: nodes.Program, space: nodes.Space) -> Iterator[tuple[nodes.Where, str, str, str]]:
    """Yield the place, the name, the reason and a remedy of what cannot take the ends of a space in other types."""
    searches = {name: search for name, search in program.searches.items() if search.space == space.name}
    mentioned = {name for search in searches.values() for name in references.references(search)}
    for scenario in (program.scenarios[name] for name in program.scenarios if name in mentioned):
        spec, why = program.hardware[scenario.hardware].spec, "no measurement times them apart"
        if isinstance(spec, nodes.MeasuredHardware) and spec.engine == "llama_cpp":
            continue  # models with each of them are timed whole
        if not isinstance(spec, nodes.RooflineHardware):
            why = "a cost table has rows of layers alone" if isinstance(spec, nodes.TableHardware) else why
            yield scenario.where, f"scenario `{scenario.name}`", why, "cost it by a profile"
    unbuilt = "children are measured by the parent's own head"
    for name, search in searches.items():
        if search.refine is not None and not references.judged_by(search):
            yield search.refine.where, f"`refine` of search `{name}`", unbuilt, "leave `refine` out"
    for export in program.exports.values():
        why = "" if references.search_behind(program, export.of) not in searches else _unlike(export, space)
        if why:
            said = "write `gguf(…)` without a recipe, or `hf(…, runtime: transformers)`"
            yield export.where, f"export `{export.name}`", why, said


def _unlike(export: nodes.Export, space: nodes.Space) -> str:
    """Return the reason why an export cannot hold the ends of a space in their types; empty if it can."""
    if export.dtype is not None and export.dtype in RECIPES:
        return "a recipe chooses the type of every matrix"
    if export.format == "hf" and export.runtime == "transformers":
        return ""
    if export.format != "gguf":
        return f"{RUNTIMES[export.runtime].title} reads them in one type"
    ends = () if space.ends is None else (*space.ends.embedding, *space.ends.head)
    strange = (e.dtype for e in ends if e.dtype is not None and PRECISIONS[e.dtype].format != "gguf")
    return next((f"a GGUF file has no `{dtype}`" for dtype in strange), "")


def _check_refine(ctx: Context, program: nodes.Program, search: nodes.Search, span: Span) -> None:
    """Report what keeps a search from being refined: it needs a measured score, a parent with weights, one solution."""
    name = search.name
    if search.solutions > 1:
        ctx.report(errors.RefinesToOne(span, search=name, solutions=search.solutions))
    score = references.refined_score(program, search)
    if score is None:
        # a goal that could be refined, or the score that the space lacks for one
        scores = [n for n, s in program.scores.items() if s.space == search.space]
        fit = [n for n in scores if references.on_text(program, n)]
        declared = "`score NAME of BLD = replace_one(kl_divergence)`"
        help = f"declare one and minimize it: {declared}, of a `bld` of `{search.space}`"
        if fit:
            rest = "; what else matters can be a bound (`require`) or come after it (`prefer`)"
            help = f"write `minimize {fit[0]}`, or bound what a `judge` measures{rest}"
        ctx.report(errors.GoalNotMeasured(span, search=name, help=help))
    bld = None if score is None else program.scores[score].bld
    if (
        search.refine
        and search.refine.healed
        and not references.judged_by(search)
        and bld is not None
        and not program.blds[bld].heal_tokens
    ):
        ctx.report(errors.HealedToMeasureAlone(span, bld=bld))
    parent = program.parents[program.spaces[search.space].parent]
    if not isinstance(parent.source, nodes.HfSource):
        ctx.report(errors.NoWeightsToRefine(span, search=name, parent=parent.name))


def _alternatives(space: nodes.Space) -> Iterator[Alternative]:
    return (each for layer in space.layers for each in (*layer.attention, *layer.ffn))


def _pieces(ctx: Context, program: nodes.Program) -> None:
    """Report alternatives that no piece can be made of, and scores of pieces that no bld makes."""
    for bld in program.blds.values():
        of_packages = {
            each.kind: each.name
            for each in _alternatives(program.spaces[bld.space])
            if not type(each).__module__.startswith("puzzledsl.")
        }
        known = {entry.name for entry in entry_points(MODULES)} if of_packages else set()
        for name in (name for kind, name in of_packages.items() if kind not in known):
            ctx.report(stage_errors.CannotRealise(ctx.span_of(bld.where), alternative=name))
    for score in program.scores.values():
        if not isinstance(score.method, nodes.ReplaceOne) or score.bld is None:
            continue
        bld, span = program.blds[score.bld], ctx.span_of(score.where)
        for part in (part for part in SUB_BLOCKS if part not in bld.sub_blocks):
            layers = enumerate(program.spaces[bld.space].layers)
            trained = ((i, each) for i, here in layers for each in getattr(here, part) if each.trainable)
            for layer, each in islice(trained, 1):
                what = f"{'FFN' if part == 'ffn' else part} `{each.name}`"
                said: Args = {"score": score.name, "bld": bld.name, "what": what, "layer": layer}
                ctx.report(stage_errors.NoPieceForAlternative(span, **said))


def _tokenizers(ctx: Context, program: nodes.Program) -> None:
    """Report exports to GGUF of children whose tokenizer, if it is there, such a file cannot hold."""
    folders = {file.shown: file.path.parent for file in ctx.loader.files.values()}
    for export in program.exports.values():
        parent = program.parents[program.spaces[references.space_of(program, export)].parent]
        if export.format == "gguf" and isinstance(parent.source, nodes.HfSource):
            directory = folders.get(parent.where.file, Path()) / parent.source.id
            if reason := objection(directory):
                span, path = ctx.span_of(export.runtime_where), parent.source.id
                ctx.report(stage_errors.UnknownTokenizer(span, path=path, reason=reason))


FORMATS = {runtime: name for name, call in EXPORTS.items() for runtime in call.arguments["runtime"].words}
"""Runtime -> the export format that is for it."""
BYTES_PER_PARAM = {"fp64": 8, "fp32": 4, "f32": 4, "tf32": 4, "fp8": 1, "int8": 1, "q8_0": 1.0625} | {
    recipe.name: recipe.bits / 8 for recipe in RECIPES.values()
}


def _exports(ctx: Context, program: nodes.Program) -> None:
    """Report what an export's space allows and its runtime lacks: a warning where it is rewritten, else an error."""
    for export in program.exports.values():
        space = program.spaces[references.space_of(program, export)]
        item = ctx.taken[export.name].item
        value = item.value if isinstance(item, tree.Decl) else None
        # the call of an export that has its own, not one that a `let` holds
        call = value.span if isinstance(value, tree.Call) else None
        _ExportCheck(ctx, export, space, program.parents[space.parent], call).report()


@record
class _Rewritten:
    """One thing that a runtime lacks: what it becomes, at what cost, and how to do without it."""

    what: str
    layers: str
    into: str
    cost: str
    drop: str


@record
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
        types = dict.fromkeys(each.dtype for each in _alternatives(space) if each.dtype is not None)
        if types and export.dtype in RECIPES:  # which chooses the type of every matrix
            span = self.call or ctx.span_of(export.where)
            call, count = re.subn(rf"dtype ?: ?{export.dtype}\b", "dtype: f16", self.written)
            fixes = [Fix.replace(span, call, safe=False)] if count == 1 else []
            named: Args = {"recipe": export.dtype, "types": listed([f"`{name}`" for name in types], "and")}
            beside = [self._label("what")]
            ctx.report(stage_errors.RecipeOfQuantised(span, secondary=beside, fixes=fixes, **named))
        choices = [(layer.attention, layer.ffn) for layer in space.layers]
        found = fit(runtime, parent.shape, choices, parent.computation)
        absent = [answer.reason for _, answer in found.model if isinstance(answer, Absent)]
        for reason in absent[:1] if found.absent[0] else absent:
            said: Args = {"runtime": runtime.title, "family": parent.shape.family, "reason": reason}
            beside = [Label(ctx.span_of(parent.where), "the parent")]
            fits = {n: fit(r, parent.shape, choices, parent.computation) for n, r in RUNTIMES.items()}
            able = [self._runtime(name) for name, other in fits.items() if not any(other.absent)]
            help = f"write {listed(able, 'or')}" if able else ""
            ctx.report(errors.NoSuchFamily(where, secondary=beside, help=help, **said))
        if absent:
            return
        label = self._label("used by" if space.used_by else "what")
        drop, rewritten = f"write {self._runtime('transformers')}", list[_Rewritten]()
        for what, answer in found.model:
            if isinstance(answer, Lowered):
                cost = self._cost(found.architecture, answer)
                rewritten.append(_Rewritten(what, "the whole model", answer.into, cost, drop))
        for lack in found.lacks:
            what = f"`{lack.alternative.name}` {'FFN' if lack.sub_block == 'ffn' else 'attention'}"
            layers, support = layers_in_words(list(lack.layers)), lack.support
            if isinstance(support, Absent):
                said = {"runtime": runtime.title, "what": what, "layers": layers, "reason": support.reason}
                help = self._absent_help(lack)
                ctx.report(errors.CannotRepresent(where, secondary=[label], help=help, **said))
            elif isinstance(support, Lowered):
                cost = self._cost(found.architecture, support, lack)
                those = "that layer" if len(lack.layers) == 1 else "those layers"
                verb, joined = ("replace", "in") if lack.kept else ("drop", "from")
                drop = f"{verb} `{lack.alternative.name}` {joined} {those}"
                rewritten.append(_Rewritten(what, layers, support.into, cost, drop))
        if not rewritten or export.lower:
            return
        call, fixes = "lower: true", []
        if export.lower is None and self.call is not None and self.written.endswith(")"):
            call = f"{self.written[:-1].rstrip().removesuffix(',')}, lower: true)"
            fixes = [Fix.replace(self.call, call, safe=False)]
        first, notes = rewritten[0], []
        what, help = f"{first.what}: {first.layers}", f"it becomes {first.into}: {first.cost}; "
        allow = f"write `{call}` to allow it, or {first.drop}"
        if len(rewritten) > 1:
            what = listed([each.what for each in rewritten], "and")
            notes = [f"{e.what}, {e.layers}: becomes {e.into}, {e.cost}; or {e.drop}" for e in rewritten]
            help, allow = "", f"write `{call}` to allow all of it"
        kind = errors.IsLowered if export.lower is None else errors.LoweringRefused
        said = {"runtime": runtime.title, "what": what, "notes": notes}
        ctx.report(kind(where, secondary=[label], fixes=fixes, help=f"{help}{allow}", **said))

    def _label(self, what: str) -> Label:
        return Label(self.ctx.span_of(self.space.where), f"{what} `{self.export.of}` may choose")

    def _cost(self, architecture: Architecture, answer: Lowered, lack: Lack | None = None) -> str:
        """Describe the overhead of one lowered sub-block: `+12MiB and +0.4 % weights to read a token, a layer`."""
        shape = self.parent.shape
        own = shape if lack is None else (shape.base or shape).at(lack.layers[0])
        extra = extra_params(architecture, answer, own, None if lack is None else lack.alternative)
        size = format_quantity(round(extra * BYTES_PER_PARAM.get(self.export.dtype or "", 2)), BYTES)
        share, each = 100 * extra / total_params(shape), " a layer" if lack and len(lack.layers) > 1 else ""
        return f"+{size} and +{share:.2g} % decode latency{each}"

    def _runtime(self, name: str) -> str:
        """Return how an export names another runtime: by `runtime:` in its own call, or by another call."""
        format_ = FORMATS[name]
        if format_ != "hf":
            return f'`{format_}("…")`'
        return f"`runtime: {name}`" if self.export.format == "hf" else f'`hf("…", runtime: {name})`'

    def _absent_help(self, lack: Lack) -> str:
        own, name = (self.parent.shape.base or self.parent.shape).at(lack.layers[0]), lack.alternative.name
        drop = f"drop `{name}` from the space"
        if lack.kept:
            drop = f"replace `{name}`, which the parent has, in those layers"
        for runtime in RUNTIMES.values():
            answers = (served(lack.alternative, a, own, first=False) for a in runtime.architectures)
            if any(answer.kind != "absent" for answer in answers):
                return f"{drop}, or write {self._runtime(runtime.name)}"
        return drop
