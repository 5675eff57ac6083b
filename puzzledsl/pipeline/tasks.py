"""Tasks of each stage, one function per stage: inputs, outputs and execution.

Inputs are digests: of the meaning of the declarations it reads, of the artefacts of earlier tasks, of the parent's
weights and of text. They are computed only when the earlier tasks are finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import sha256_of, write_text
from puzzledsl.checker.declarations.refines import measured_searches
from puzzledsl.ir import nodes
from puzzledsl.ir.evaluated import space_evaluated
from puzzledsl.ir.tables import ModelDefinition, ScoreTable
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.digests import (
    digest_of,
    files_fingerprint,
    meaning,
)
from puzzledsl.pipeline.inputs import (
    best_solution,
    chosen_child,
    costs_of,
    data_inputs,
    evaluated_models,
    jobs_of,
    measured_scenarios,
    only_data,
    scores_of,
)
from puzzledsl.pipeline.task import COMPILE, Task


def measure(ctx: Context, space: str) -> Task:
    """Run times of real blocks on this machine."""
    wanted = measured_scenarios(ctx)

    def inputs() -> dict[str, str]:
        scenarios = [meaning(ctx.program.scenarios[n]) for n in wanted]
        hardware = [meaning(ctx.program.hardware[ctx.program.scenarios[n].hardware]) for n in wanted]
        return {
            "alternatives": digest_of(_distinct_alternatives(ctx.program.spaces[space])),
            "scenarios": digest_of([wanted, scenarios, hardware]),
            "parent": ctx.fingerprint(space, "measure"),
        }

    def run() -> list[Path]:
        from puzzledsl.costs.csv_written import csv_of
        from puzzledsl.measure.costs import measure_costs

        work = ctx.build.work("measure", space)
        table = measure_costs(
            ctx.program,
            space,
            ctx.parent_directory(space, "measure"),
            work,
            ctx.progress,
        )
        output, for_others = ctx.build.measured_costs(space), ctx.build.measured_csv(space)
        write_text(output, table.canonical_json())
        write_text(for_others, csv_of(table))
        return [output, for_others]

    return Task("measure", space, inputs, run)


def _distinct_alternatives(space: nodes.Space) -> list[str]:
    found = {a.model_dump_json() for c in space.layers for a in c.attention}
    found |= {"ffn" + f.model_dump_json() for c in space.layers for f in c.ffn}
    return [str(len(space.layers)), *sorted(found)]


def bld(ctx: Context, name: str) -> Task:
    """Initialise and train the pieces of one BLD declaration."""
    declaration = ctx.program.blds[name]

    def inputs() -> dict[str, str]:
        jobs = [job.id for job in jobs_of(ctx, name)]
        parent = ctx.fingerprint(declaration.space, "bld")
        return {
            "jobs": digest_of(jobs),
            "parent": parent,
            **data_inputs(ctx, declaration.data),
        }

    def run() -> list[Path]:
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.pieces.train.run import run_bld

        jobs = jobs_of(ctx, name)
        library = Library(ctx.build.library)
        parent = ctx.parent_directory(declaration.space, "bld")
        work = ctx.build.work("bld", name)
        maker = None
        if ctx.on is not None:
            from puzzledsl.pieces.cluster.on_ray import OnRay

            maker = OnRay(ctx.on)
        run_bld(ctx.program, name, jobs, parent, ctx.base, library, work, ctx.progress, maker)
        return [
            ctx.build.library / piece.file
            for piece in library.pieces()
            if piece.job.id in {j.id for j in jobs}
        ]

    def intact() -> bool:
        from puzzledsl.pieces.store.index import Index

        return {job.id for job in jobs_of(ctx, name)} <= Index(
            ctx.build.library / "index.jsonl"
        ).read().keys()

    return Task("bld", name, inputs, run, intact)


SCORING = "influence"
"""Version of what a measured table holds besides scores; raised when that changes, so that tables made before are made again."""


def score(ctx: Context, name: str) -> Task:
    """Replace one block at a time and compare with the parent."""
    declaration = ctx.program.scores[name]
    method = declaration.method
    assert isinstance(method, nodes.ReplaceOne) and declaration.bld is not None
    bld_name = declaration.bld
    data = method.data or ctx.program.blds[bld_name].data

    def inputs() -> dict[str, str]:
        tasks = {"tasks": files_fingerprint([method.tasks], ctx.base)} if method.tasks else {}
        parent = ctx.fingerprint(declaration.space, "score")
        pieces = ctx.made("bld", bld_name, "the pieces")
        space = meaning(ctx.program.spaces[declaration.space])
        child = {"child": ctx.made("solve", method.around, "the solutions")} if method.around else {}
        healing = {"healing": healing_text(ctx, [bld_name])} if method.healed else {}
        return {
            "score": meaning(method),
            "scoring": SCORING,
            "space": space,
            "pieces": pieces,
            "parent": parent,
            **child,
            **tasks,
            **data_inputs(ctx, data),
            **healing,
        }

    def run() -> list[Path]:
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.scoring.run import run_score

        ctx.made("bld", bld_name, "the pieces")
        library = Library(ctx.build.library)
        parent = ctx.parent_directory(declaration.space, "score")
        jobs = jobs_of(ctx, bld_name)

        def measured(work: Path, child: ModelDefinition | None = None) -> ScoreTable:
            return run_score(ctx.program, name, parent, ctx.base, library, jobs, work, ctx.progress, child)

        if method.around is None:
            table = measured(ctx.build.work("score", name))
        else:
            from puzzledsl.data.errors import NotEnoughText
            from puzzledsl.pipeline.rounds.rescoring import scores_around
            from puzzledsl.scoring.run import score_children

            def judged(children: Sequence[ModelDefinition], *, unseen: bool = False) -> list[float]:
                given = (ctx.program, name, parent, ctx.base, library, children, ctx.progress)
                return score_children(*given, unseen=unseen)

            def judged_unseen(children: Sequence[ModelDefinition]) -> list[float] | None:
                try:
                    return None if method.metric == "accuracy" else judged(children, unseen=True)
                except DiagnosticError as error:
                    if not isinstance(error.diagnostics[0], NotEnoughText):
                        raise
                    return None

            work = ctx.build.work("score", f"{name}-{digest_of(inputs())[:16]}")
            table = scores_around(
                ctx, name, jobs, lambda child, at: measured(at, child), judged, judged_unseen, work
            )
        output = ctx.build.scores(name)
        write_text(output, table.canonical_json())
        shutil.rmtree(ctx.build.work("score", name), ignore_errors=True)
        return [output]

    return Task("score", name, inputs, run)


def solve(ctx: Context, name: str) -> Task:
    """Choose one alternative a sub-block a layer."""
    search = ctx.program.searches[name]

    def inputs() -> dict[str, str]:
        return {
            "search": meaning(search.model_copy(update={"refine": None})),
            "costs": costs_of(ctx, search.space).digest(),
            "scores": digest_of({n: t.digest() for n, t in sorted(scores_of(ctx, name).items())}),
        }

    def run() -> list[Path]:
        from puzzledsl.search.solve import solve_search

        tables = costs_of(ctx, search.space), scores_of(ctx, name)
        result = solve_search(ctx.program, name, *tables, progress=ctx.progress)
        output = ctx.build.solution(name)
        write_text(output, result.canonical_json())
        return [output]

    return Task("solve", name, inputs, run)


def frontier(ctx: Context, name: str) -> Task:
    """Solve a search along one metric."""
    declaration = ctx.program.frontiers[name]

    def inputs() -> dict[str, str]:
        return {
            "frontier": meaning(declaration, without=("children",)),
            **solve(ctx, declaration.search).inputs(),
        }

    def run() -> list[Path]:
        from puzzledsl.search.curve import as_csv, as_svg
        from puzzledsl.search.frontier import solve_frontier

        space = ctx.program.searches[declaration.search].space
        result = solve_frontier(ctx.program, name, costs_of(ctx, space), scores_of(ctx, declaration.search))
        output, table = ctx.build.frontier(name), ctx.build.frontier_csv(name)
        plot = ctx.build.frontier_plot(name)
        write_text(output, result.canonical_json())
        write_text(table, as_csv(ctx.program, result))
        write_text(plot, as_svg(ctx.program, result))
        return [output, table, plot]

    return Task("frontier", name, inputs, run)


HEALING = "2"
"""The method; raised when it changes, so that children healed before are made again."""


def _healing(ctx: Context, blds: Sequence[str]) -> str:
    """The method, the tokens and the text."""
    if not ctx.heal:
        return "none"
    declared = [ctx.program.blds[name] for name in blds]
    healing = [name for name in blds if ctx.program.blds[name].heal_tokens]
    method = [HEALING, [bld.heal_tokens for bld in declared], _texts(ctx, healing)]
    refined = _refined_samples(ctx)
    return digest_of([*method, refined] if refined else method)


def healing_text(ctx: Context, blds: Sequence[str]) -> str:
    """The method, the text, and how much of it may be scored: what scores after healing depend on."""
    methods = [score.method for score in ctx.program.scores.values()]
    samples = [method.samples for method in methods if isinstance(method, nodes.ReplaceOne)]
    return digest_of([HEALING, _texts(ctx, blds), max([*samples, *_refined_samples(ctx)])])


def _refined_samples(ctx: Context) -> list[int]:
    """Positions that children are measured on around each search: text that no child is healed on."""
    return [search.refine.samples for search in measured_searches(ctx.program) if search.refine is not None]


def _texts(ctx: Context, blds: Sequence[str]) -> list[dict[str, str]]:
    declared = [ctx.program.blds[name] for name in blds]
    return [data_inputs(ctx, bld.heal_data or bld.data) for bld in declared]


def realise(ctx: Context, search: str) -> Task:
    """The child checkpoint of a search's best solution."""
    space = ctx.program.searches[search].space
    blds = [name for name, bld in ctx.program.blds.items() if bld.space == space]

    def inputs() -> dict[str, str]:
        best = chosen_child(ctx, search)
        pieces = {name: ctx.made("bld", name, "the pieces") for name in blds}
        layers = digest_of([layer.model_dump() for layer in best.layers])
        parent = ctx.fingerprint(space, "realise")
        return {"layers": layers, "parent": parent, "healing": _healing(ctx, blds), **pieces}

    def run() -> list[Path]:
        from puzzledsl.child.checkpoint.realise import realise as write_child
        from puzzledsl.child.definition import model_definition
        from puzzledsl.child.healing.run import healed_weights
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.pipeline.text.card import model_card

        result = best_solution(ctx, search)
        jobs = tuple(job for name in blds for job in jobs_of(ctx, name))
        definition = model_definition(ctx.program, search, chosen_child(ctx, search), jobs)
        library = Library(ctx.build.library)
        output = ctx.build.model(search)
        card = model_card(ctx, search, result)
        parent = ctx.parent_directory(space, "realise")
        work = ctx.build.work("realise", f"{search}-{digest_of(inputs())[:16]}")
        healed = {}
        if ctx.heal:
            healed = healed_weights(
                ctx.program,
                definition,
                jobs,
                parent,
                ctx.base,
                library.load,
                ctx.build.tokens,
                work,
                ctx.progress,
            )
        write_child(definition, parent, library.load, output, card, healed=healed)
        for unfinished in work.parent.glob(f"{search}-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return [output]

    return Task("realise", search, inputs, run)


def uptrain(ctx: Context, name: str) -> Task:
    """Global knowledge distillation of a child."""
    declaration = ctx.program.uptrains[name]
    space = ctx.program.searches[declaration.search].space
    data = declaration.data or only_data(ctx)

    def inputs() -> dict[str, str]:
        return {
            "uptrain": meaning(declaration),
            "child": ctx.made("realise", declaration.search, "the child"),
            "parent": ctx.fingerprint(space, "uptrain"),
            **data_inputs(ctx, data),
        }

    def run() -> list[Path]:
        from puzzledsl.uptrain.ranks import announce, ranks_of
        from puzzledsl.uptrain.run import run_uptrain

        ranks = ranks_of()
        if ranks.leads:
            announce(ranks, name)
        ctx.made("realise", declaration.search, "the child")
        parent = ctx.parent_directory(space, "uptrain")
        child, output = ctx.build.model(declaration.search), ctx.build.model(name)
        work = ctx.build.work("uptrain", name)
        run_uptrain(
            ctx.program,
            name,
            parent,
            child,
            output,
            ctx.base,
            work,
            ctx.build.tokens,
            ctx.progress,
            ranks,
        )
        return [output]

    return Task("uptrain", name, inputs, run)


def evaluate(ctx: Context, name: str) -> Task:
    """Parent and children side by side."""
    declaration = ctx.program.evals[name]
    data, space = declaration.data or only_data(ctx), space_evaluated(ctx.program, name)

    def stage_of(model: str) -> str:
        return "uptrain" if model in ctx.program.uptrains else "realise"

    def inputs() -> dict[str, str]:
        models, _ = evaluated_models(ctx, name)
        for child in (declaration.of, *declaration.full):
            ctx.made(stage_of(child), child, "the child")
        return {
            "eval": meaning(declaration, without=("full", "dtype")),
            **({"full": digest_of(declaration.full)} if declaration.full else {}),
            **({"dtype": declaration.dtype} if declaration.dtype else {}),
            "models": digest_of({m: ctx.made(stage_of(m), m, "the child") for m in models}),
            "scenarios": digest_of({n: meaning(ctx.program.scenarios[n]) for n in measured_scenarios(ctx)}),
            "tasks": files_fingerprint(declaration.tasks, ctx.base),
            "parent": ctx.fingerprint(space, "eval"),
            **data_inputs(ctx, data, *declaration.more_data),
        }

    def run() -> list[Path]:
        from puzzledsl.evaluate.run import run_eval

        for child in (declaration.of, *declaration.full):
            ctx.made(stage_of(child), child, "the child")
        models, full = evaluated_models(ctx, name)
        parent = ctx.parent_directory(space, "eval")
        work = ctx.build.work("eval", name)
        result = run_eval(
            ctx.program,
            name,
            models,
            full,
            parent,
            ctx.base,
            ctx.build.tokens,
            work,
            ctx.progress,
        )
        output = ctx.build.evaluation(name)
        write_text(output, result.canonical_json())
        return [output]

    return Task("eval", name, inputs, run)


def export(ctx: Context, name: str) -> Task:
    """A child, written where and for what it is to be used."""
    declaration = ctx.program.exports[name]
    stage = "uptrain" if declaration.of in ctx.program.uptrains else "realise"

    def inputs() -> dict[str, str]:
        from puzzledsl.pipeline.text.quality_card import quality_of

        quality = quality_of(ctx, declaration.of)
        return {
            "export": meaning(declaration),
            "child": ctx.made(stage, declaration.of, "the child"),
            **({"quality": digest_of(quality)} if quality else {}),
        }

    def run() -> list[Path]:
        from puzzledsl.child.checkpoint.write import refuse_to_overwrite
        from puzzledsl.export.write import write_export
        from puzzledsl.pipeline.process.copying import clear_leftovers, copy_directory
        from puzzledsl.pipeline.text.quality_card import add_quality, quality_of

        ctx.made(stage, declaration.of, "the child")
        child, target = ctx.build.model(declaration.of), ctx.base / declaration.path
        clear_leftovers(target)
        if declaration.runtime == "transformers" and declaration.dtype is None:
            refuse_to_overwrite(target)
            copy_directory(child, target)
        else:
            write_export(child, target, declaration.format, declaration.runtime, declaration.dtype, name=name)
        add_quality(target, quality_of(ctx, declaration.of))
        return [target]

    return Task("export", name, inputs, run)


def report(ctx: Context) -> Task:
    """The page that shows it all."""

    def inputs() -> dict[str, str]:
        made = {s.title: s.digest() for s in ctx.stamps.all() if s.stage not in ("report", COMPILE)}
        engines = sorted(ctx.build.engines("").parent.glob("*.json"))
        tried = {f"engines {path.stem}": sha256_of(path) for path in engines}
        return {"source": digest_of(ctx.source), **made, **tried}

    def run() -> list[Path]:
        from puzzledsl.report.write import write_report

        return [write_report(ctx.program, ctx.build, ctx.source)]

    return Task("report", "", inputs, run)
