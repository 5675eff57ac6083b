"""Checks of what later stages need, long before they run: solvers, `refine`, pieces, tokenizers and texts that parents write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.base.diagnostics import Args, Span
from puzzledsl.base.entry_points import entry_points
from puzzledsl.base.stage_errors import (
    CannotRealise,
    NoFit,
    NoPieceForAlternative,
    NothingMeasured,
    UnknownTokenizer,
)
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import declaration_errors as errors
from puzzledsl.ir import nodes, references
from puzzledsl.ir.gguf_tokenizers import objection

MODULES = "puzzledsl.models.alternatives"
"""Entry points of the modules of packages' alternatives."""


def check_solvers(ctx: Context, program: nodes.Program) -> None:
    """Report searches whose solver reads what no score of their space measures."""
    for name, search in program.searches.items():
        if references.drops_by_influence(search) and references.influence_score(program, search) is None:
            said: Args = {"search": name, "solver": search.solver.kind, "space": search.space}
            ctx.report(NothingMeasured(ctx.span_of(search.where), **said))


# ---------------------------------------------------------------- refine


def check_refines(ctx: Context, program: nodes.Program) -> None:
    """Report what keeps searches from being refined: they need a measured score, a parent with weights, one solution."""
    for search in program.searches.values():
        if search.refine:
            _check_refine(ctx, program, search, ctx.span_of(search.refine.where))
    for frontier in program.frontiers.values():
        search = program.searches[frontier.search]
        if frontier.children and not search.refine:
            _check_refine(ctx, program, search, ctx.span_of(frontier.where))


def _check_refine(ctx: Context, program: nodes.Program, search: nodes.Search, span: Span) -> None:
    name = search.name
    if isinstance(search.solver, nodes.Baseline):
        ctx.report(errors.BaselineRefined(span, search=name, solver=search.solver.kind))
    if search.solutions > 1:
        ctx.report(errors.RefinesToOne(span, search=name, solutions=search.solutions))
    score = references.refined_score(program, search)
    if score is None:
        # a goal that could be refined, or the score that the space lacks for one
        scores = [n for n, s in program.scores.items() if s.space == search.space]
        fit = [n for n in scores if references.on_text(program, n)]
        help = (
            f"declare one and minimize it: `score NAME of BLD = replace_one(kl_divergence)`, "
            f"of a `bld` of `{search.space}`"
        )
        if fit:
            rest = "; what else matters can be a bound (`require`) or come after it (`prefer`)"
            help = f"write `minimize {fit[0]}`{rest}"
        ctx.report(errors.GoalNotMeasured(span, search=name, help=help))
    bld = None if score is None else program.scores[score].bld
    if search.refine and search.refine.healed and bld is not None and not program.blds[bld].heal_tokens:
        ctx.report(errors.HealedToMeasureAlone(span, bld=bld))
    parent = program.parents[program.spaces[search.space].parent]
    if not isinstance(parent.source, nodes.HfSource):
        ctx.report(errors.NoWeightsToRefine(span, search=name, parent=parent.name))


# ---------------------------------------------------------------- pieces


def check_pieces(ctx: Context, program: nodes.Program) -> None:
    """Report alternatives that no piece can be made of, and scores of pieces that no bld makes."""
    for bld in program.blds.values():
        for name in _without_module(program, bld):
            ctx.report(CannotRealise(ctx.span_of(bld.where), alternative=name))
    for score in program.scores.values():
        if isinstance(score.method, nodes.ReplaceOne) and score.bld is not None:
            _check_score(ctx, program, score, score.method, program.blds[score.bld])


def _without_module(program: nodes.Program, bld: nodes.Bld) -> Iterator[str]:
    """Yield the alternatives of packages that have no module."""
    of_packages = {
        alternative.kind: alternative.name
        for layer in program.spaces[bld.space].layers
        for alternative in (*layer.attention, *layer.ffn)
        if not type(alternative).__module__.startswith("puzzledsl.")
    }
    if of_packages:
        known = {entry.name for entry in entry_points(MODULES)}
        yield from (name for kind, name in of_packages.items() if kind not in known)


def _check_score(
    ctx: Context, program: nodes.Program, score: nodes.Score, method: nodes.ReplaceOne, bld: nodes.Bld
) -> None:
    span, around = ctx.span_of(score.where), method.around is not None
    if method.children and (method.metric != "kl_divergence" or around):
        what = "scores around a child" if around else f"`{method.metric}` scores"
        ctx.report(NoFit(span, score=score.name, what=what))
    for sub_block in SUB_BLOCKS:
        first = _first(program.spaces[bld.space], sub_block)
        if sub_block not in bld.sub_blocks and first is not None:
            what = f"{'FFN' if sub_block == 'ffn' else sub_block} `{first[1].name}`"
            said: Args = {"score": score.name, "bld": bld.name, "what": what, "layer": first[0]}
            ctx.report(NoPieceForAlternative(span, **said))


def _first(space: nodes.Space, sub_block: SubBlock) -> tuple[int, Alternative] | None:
    """Return the first alternative of a sub-block that needs a piece, with its layer."""
    for layer, choice in enumerate(space.layers):
        for alternative in choice.attention if sub_block == "attention" else choice.ffn:
            if alternative.trainable:
                return layer, alternative
    return None


# ---------------------------------------------------------------- tokens


def check_tokenizers(ctx: Context, program: nodes.Program) -> None:
    """Report exports to GGUF of children whose tokenizer, if it is there, such a file cannot hold."""
    folders = {file.shown: file.path.parent for file in ctx.loader.files.values()}
    for export in program.exports.values():
        parent = program.parents[program.spaces[references.space_of(program, export)].parent]
        if export.format == "gguf" and isinstance(parent.source, nodes.HfSource):
            directory = folders.get(parent.where.file, Path()) / parent.source.id
            if reason := objection(directory):
                span = ctx.span_of(export.runtime_where)
                ctx.report(UnknownTokenizer(span, path=parent.source.id, reason=reason))


def check_writers(ctx: Context, program: nodes.Program) -> None:
    """Report declarations that read the text of another parent, which is written in that one's tokens."""
    reading: Mapping[str, Mapping[str, references.OfASpace]] = {
        "bld": program.blds,
        "score": program.scores,
        "search": program.searches,
        "uptrain": program.uptrains,
        "eval": program.evals,
    }
    for kind, declared in reading.items():
        for name, declaration in declared.items():
            parent = program.parents[program.spaces[references.space_of(program, declaration)].parent]
            for data in sorted(set(references.references(declaration)) & program.data.keys()):
                for writer in _writers(program.data[data]):
                    if not _is_same(program.parents[writer], parent):
                        said: Args = {"reader": f"{kind} `{name}`", "parent": parent.name, "data": data}
                        ctx.report(
                            errors.WrittenByAnother(ctx.span_of(declaration.where), writer=writer, **said)
                        )


def _is_same(one: nodes.Parent, other: nodes.Parent) -> bool:
    """Return True for one parent, or for two names of one checkpoint."""
    named = isinstance(one.source, nodes.HfSource) and one.source == other.source
    return one.name == other.name or named


def _writers(data: nodes.Data) -> list[str]:
    """Return the parents that write a text, or parts of it."""
    parts = data.source.parts if isinstance(data.source, nodes.MixData) else ()
    sources = [data.source, *(part.source for part in parts)]
    return sorted({source.parent for source in sources if isinstance(source, nodes.SampledData)})
