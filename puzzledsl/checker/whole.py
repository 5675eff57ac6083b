"""Checks of a whole program: what later stages need, and lints of what is legal but probably unintended."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.base import diagnostics as stage_errors
from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.base.gguf_tokenizers import objection
from puzzledsl.base.resources import entry_points
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.engines import alternatives_of, check_engines, check_exports
from puzzledsl.checker.expressions.operators import FLIPPED
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.occurrences import occurrences
from puzzledsl.ir import nodes, references
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.measured_engines import RECIPES
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.references import mentioned_scores
from puzzledsl.syntax import tree

MODULES = "puzzledsl.models.alternatives"
"""Group of the entry points by which other packages name the modules of their alternatives."""


def check_whole(ctx: Context, program: nodes.Program) -> None:
    """Report what a later stage cannot do, of a program whose declarations have no mistakes."""
    for search in program.searches.values():
        if search.refine:
            _check_refine(ctx, program, search, ctx.span_of(search.refine.where))
    for check in (_judges, _built, _ends, check_exports, check_engines, _tokenizers, _pieces):
        check(ctx, program)


def _judges(ctx: Context, program: nodes.Program) -> None:
    """Report judges whose documents or questions something else reads, too: a child must not be reported on what chose it."""
    readers = references.readers_of(program) if program.judges else {}
    for judge in program.judges.values():
        met = [name for name in readers if references.overlap(program.data[name], program.data[judge.data])]
        found = [("documents", reader) for reader in dict.fromkeys(r for name in met for r in readers[name])]
        same = (e.name for e in program.evals.values() if {*e.tasks} & {*judge.tasks})
        for what, reader in (found or [("questions", f"eval `{name}`") for name in same])[:1]:
            said: Args = {"judge": judge.name, "what": what, "reader": reader, "found": ""}
            ctx.report(stage_errors.JudgedOnWhatIsRead(ctx.span_of(judge.where), **said))


def _built(ctx: Context, program: nodes.Program) -> None:
    """Report declarations that need the child of a search that builds none."""
    for declared in (program.uptrains, program.evals, program.exports):
        for kind, declaration in ((type(d).__name__.lower(), d) for d in declared.values()):
            for name in dict.fromkeys(references.references(declaration)):
                if name in program.searches and not program.searches[name].realise:
                    said: Args = {"what": f"{kind} `{declaration.name}`", "search": name}
                    ctx.report(errors.NotBuilt(ctx.span_of(declaration.where), **said))


def _ends(ctx: Context, program: nodes.Program) -> None:
    """Report scenarios, `refine`s and exports that cannot take an embedding or a head in another type than the parent's."""
    for space in program.spaces.values():
        if space.ends is None:
            continue
        ends = " and ".join(site for site, choice in space.ends if any(not end.is_parent for end in choice))
        for where, what, why, help in _without_ends(program, space):
            said: Args = {"what": what, "ends": ends, "space": space.name, "why": why}
            said["help"] = f"{help}, or leave {ends} out of the space"
            ctx.report(stage_errors.EndsNotTaken(ctx.span_of(where), **said))


def _without_ends(program: nodes.Program, space: nodes.Space) -> Iterator[tuple[nodes.Where, str, str, str]]:
    """Yield place, name, reason and remedy of each scenario, `refine` and export that cannot take the ends of a space."""
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
    """Report what keeps a search from being refined: it needs a score measured on text, a parent with weights, one solution."""
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
    heals = search.refine is not None and search.refine.healed and not references.judged_by(search)
    if heals and bld is not None and not program.blds[bld].heal_tokens:
        ctx.report(errors.HealedToMeasureAlone(span, bld=bld))
    parent = program.parents[program.spaces[search.space].parent]
    if not isinstance(parent.source, nodes.HfSource):
        ctx.report(errors.NoWeightsToRefine(span, search=name, parent=parent.name))


def _pieces(ctx: Context, program: nodes.Program) -> None:
    """Report alternatives that no piece can be made of, and scores of pieces that their bld does not make."""
    for bld in program.blds.values():
        of_packages = {
            each.kind: each.name
            for each in alternatives_of(program.spaces[bld.space])
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
    """Report exports to GGUF whose parent's tokenizer, if its files are on this machine, a GGUF file cannot hold."""
    folders = {file.shown: file.path.parent for file in ctx.loader.files.values()}
    for export in program.exports.values():
        parent = program.parents[program.spaces[references.space_of(program, export)].parent]
        if export.format == "gguf" and isinstance(parent.source, nodes.HfSource):
            reason = objection(folders.get(parent.where.file, Path()) / parent.source.id)
            if reason:
                span, path = ctx.span_of(export.runtime_where), parent.source.id
                ctx.report(stage_errors.UnknownTokenizer(span, path=path, reason=reason))


def warn(ctx: Context, program: nodes.Program) -> None:
    """Report the warnings about a whole program, which has no errors."""
    warn_of_unused(ctx, program)
    warn_of_direction(ctx, program)
    warn_of_windows(ctx, program)
    warn_of_few_tokens(ctx, program)


def warn_of_direction(ctx: Context, program: nodes.Program) -> None:
    """Report bounds in the wrong direction that the parent meets; bounds on both sides ask for a range, and are not reported."""
    for search in program.searches.values():
        bounds = [r for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
        sides = {(bound.left, bound.op[0]) for bound in bounds}
        for requirement in bounds:
            op, what, bound = requirement.op, requirement.where.text, requirement.bound_where.text
            other, direction = ("<", "less") if op[0] == ">" else (">", "more")
            if _is_wrong_way_round(requirement) and (requirement.left, other) not in sides:
                said: Args = {"bound": f"{what} {op} {bound}", "what": what, "direction": direction}
                said |= {"instead": f"{what} {FLIPPED[op]} {bound}"}
                ctx.report(errors.WrongWayRound(ctx.span_of(requirement.bound_where), **said))


def _is_wrong_way_round(requirement: nodes.LinearRequirement) -> bool:
    """Return True for a bound by a multiple of the parent's value that the parent meets and only better children miss."""
    ratio, left = requirement.parent_ratio, requirement.left
    if ratio is None or len(left.terms) != 1 or left.constant or left.terms[0].coefficient != 1:
        return False
    match left.terms[0].term:
        case nodes.MetricTerm(metric=metric) if METRICS[metric].better == "more":
            return ratio >= 1 if requirement.op == "<=" else requirement.op == "<" and ratio > 1
        case nodes.MetricTerm() | nodes.ParamsTerm():
            return ratio <= 1 if requirement.op == ">=" else requirement.op == ">" and ratio < 1
        case _:
            return False


_NEVER_AN_END = {"let", "param", "fn", "parent", "hardware", "data"}
"""Kinds that are useful only to other declarations; a space, a score or an export can be the purpose of a program."""


def warn_of_unused(ctx: Context, program: nodes.Program) -> None:
    """Report unused names of the main file. A file without a search is a library, whose names are for others: skipped."""
    if not program.searches:
        return
    found = [(o, o.symbol) for o in occurrences(ctx.root) if isinstance(o.symbol, Symbol)]
    used = {s.place for o, s in found if o.role == "uses" and not isinstance(o.item, tree.Use)}
    # the names that declarations refer to, explicitly or by default
    referred = {name for node in ctx.lowered.values() for name in references.references(node)}
    imports: dict[int, tuple[tree.Use, list[Span]]] = {}
    for occurrence, symbol in found:
        if symbol.place in used or symbol.name.startswith("_"):
            continue
        if isinstance(occurrence.item, tree.Use) and occurrence.role == "uses":
            imports.setdefault(id(occurrence.item), (occurrence.item, []))[1].append(occurrence.span)
        elif occurrence.role == "declares" and symbol.kind in _NEVER_AN_END and symbol.name not in referred:
            ctx.report(errors.UnusedName(symbol.span, kind=symbol.kind, name=symbol.name))
    for use, unused in imports.values():
        for place, name in ((place, name) for place, name in enumerate(use.names) if name.span in unused):
            start, end = name.span.start, name.span.end
            if place + 1 < len(use.names):
                end = use.names[place + 1].span.start
            elif place:
                start = use.names[place - 1].span.end
            fix = Fix.replace(start.to(end), "", "leave it out")
            if len(unused) == len(use.names):
                fix = Fix.replace(use.span, "", "remove this `use`", safe=False)
            ctx.report(errors.UnusedUse(name.span, name=name.text, path=use.path.value, fixes=[fix]))


def warn_of_windows(ctx: Context, program: nodes.Program) -> None:
    """Report scores of a search that see fewer tokens at once than its longest scenario has, if a window hides some of these."""
    told: set[str] = set()
    for search in program.searches.values():
        metrics = (t for t in references.terms_of(search) if isinstance(t, nodes.MetricTerm))
        scenarios = [program.scenarios[term.scenario] for term in metrics]
        scenario = max(scenarios, key=lambda each: each.prompt + each.output, default=None)
        for name in mentioned_scores(search):
            score, method = program.scores[name], program.scores[name].method
            if scenario is None or score.bld is None or name in told:
                continue
            if not isinstance(method, nodes.ReplaceOne) or method.tasks is not None:
                continue  # it reads no text, or questions
            layers, length = program.spaces[search.space].layers, scenario.prompt + scenario.output
            if (seen := min(method.samples, program.blds[score.bld].context)) >= length:
                continue
            gqas = (a for layer in layers for a in layer.attention if isinstance(a, GqaAttention))
            # those that hide something; the parent's own aside
            if windows := sorted({a.window for a in gqas if a.window is not None and a.window < length}):
                told.add(name)
                said: Args = {"score": name, "seen": seen, "scenario": scenario.name, "bld": score.bld}
                said |= {"windows": " and ".join(f"{window:,}" for window in windows)}
                ctx.report(errors.WindowUnseen(ctx.span_of(score.where), length=length, **said))


def warn_of_few_tokens(ctx: Context, program: nodes.Program) -> None:
    """Report each BLD whose calibration text has fewer tokens for an expert than the expert has channels."""
    for bld in program.blds.values():
        space, calibration = program.spaces[bld.space], bld.calibration_tokens
        each = zip(program.parents[space.parent].shape.each, space.layers, strict=True)
        refitted = (own for own, layer in each if any(isinstance(a, MoeFfn) for a in layer.ffn))
        shapes = [own for own in refitted if _needed(own) > calibration]
        if "ffn" not in bld.sub_blocks or not shapes:
            continue
        own = max(shapes, key=_needed)
        said: Args = {"calibration": calibration, "width": own.expert_width}
        said |= {"seen": calibration * own.top_k // own.experts, "needed": f"{-(-_needed(own) // 1024)}Ki"}
        ctx.report(errors.FewTokensAnExpert(ctx.span_of(bld.where), **said))


def _needed(shape: nodes.Shape) -> int:
    """Return the calibration tokens by which each expert sees as many tokens as it has channels, if they spread evenly."""
    return -(-shape.expert_width * shape.experts // shape.top_k)
