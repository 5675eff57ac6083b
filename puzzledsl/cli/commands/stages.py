"""One resumable command for each stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.options import (
    BuildOption,
    FileArgument,
    HealOption,
    JsonOption,
    NamesArgument,
    OnOption,
    SetOption,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from puzzledsl.ir.nodes import Program
    from puzzledsl.pipeline.context import Context
    from puzzledsl.pipeline.task import Task


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for command in (measure, bld, score, refine, realise, uptrain, eval_, export, report):
        app.command(command.__name__.rstrip("_"))(command)


def measure(
    file: FileArgument,
    spaces: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Measure real blocks on this machine, for scenarios on `measured(...)` hardware.

    Each distinct block once, prefill and decode; then random whole children, to say how far sums of blocks are off. Writes
    costs/SPACE.measured.json, and costs/SPACE.measured.csv for `table(...)` hardware in other programs. Interrupt it at
    any moment: the same command goes on from there.
    """
    from puzzledsl.ir.tables import CostTable

    ctx, wanted = _stage(
        "measure",
        "space",
        lambda p: {n: s for n, s in p.spaces.items() if s.used_by is None},
        file,
        spaces,
        build,
        set_,
    )
    for space in wanted:
        table = ctx.load(ctx.build.measured_costs(space), CostTable, "measure", space)
        for scenario, provenance in table.provenance.items():
            print(f"{space}, {scenario}: {provenance}")


def bld(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    on: OnOption = None,
) -> None:
    """Make the pieces: initialise every alternative from the parent and train each alone against the parent's sub-block.

    Finished pieces stay in library/ and are never made twice.
    """
    _stage("bld", "bld", lambda p: p.blds, file, names, build, set_, on=on)


def score(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Score every piece: replace one block of the parent and compare outputs. Writes scores/NAME.json."""
    from puzzledsl.ir.nodes import ReplaceOne

    _stage(
        "score",
        "score",
        lambda p: {n: s for n, s in p.scores.items() if isinstance(s.method, ReplaceOne)},
        file,
        names,
        build,
        set_,
    )


def refine(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Measure children around the optimum of a search that has `refine`, and keep the best. Writes refined/SEARCH.json.

    Of a frontier with `children: N`, at every point of it, after `pzl frontier`. Writes refined/FRONTIER.json.

    Each child is built in memory, healed and compared with the parent; the scores are refitted to what was measured, and the
    solver proposes the next ones. What is proven is the optimum of the scores; the best measured child is not. Interrupt
    it at any moment: children that are measured are kept.

    With --json one list of what these files hold.
    """
    from puzzledsl.cli.output import print_json
    from puzzledsl.pipeline.inputs import refined_frontier_of, refinement_of
    from puzzledsl.pipeline.text.refined_text import refined_frontier_text, refinement_text

    ctx, wanted = _stage(
        "refine",
        "refined search or frontier with children",
        lambda p: {
            **{n: s for n, s in p.searches.items() if s.refine is not None},
            **{n: f for n, f in p.frontiers.items() if f.children},
        },
        file,
        names,
        build,
        set_,
    )
    documents, texts = [], []
    for name in wanted:
        if name in ctx.program.frontiers:
            along = refined_frontier_of(ctx, name)
            documents.append(along.model_dump(mode="json"))
            texts.append(refined_frontier_text(ctx.program, along))
        elif (found := refinement_of(ctx, name)) is not None:
            documents.append(found.model_dump(mode="json"))
            texts.append(refinement_text(found))
    if json:
        print_json(documents)
    else:
        print("\n\n".join(texts))


def realise(
    file: FileArgument,
    searches: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    heal: HealOption = True,
) -> None:
    """Assemble the child of a solved search and heal it: a checkpoint directory that transformers loads. Writes models/SEARCH/.

    Healing fits the last weights of every sub-block again, so that the child's hidden states follow the parent's.
    """
    _stage("realise", "search", lambda p: p.searches, file, searches, build, set_, heal=heal)


def uptrain(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Train a child against the parent (global knowledge distillation). Writes models/NAME/.

    On several GPUs: `torchrun --nproc-per-node 8 -m puzzledsl.cli.main uptrain FILE`; parent and child are then sharded
    (FSDP2). Interrupt it at any moment: the same command goes on from there.
    """
    from puzzledsl.cli import loading
    from puzzledsl.pipeline.process.torchrun import dismiss, follow, follows

    if follows():
        if not follow(loading.context(file, set_, build)):
            raise typer.Exit(1)
        return
    _stage("uptrain", "uptrain", lambda p: p.uptrains, file, names, build, set_)
    dismiss()


def eval_(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Measure parent and children side by side: size, speed, KL, perplexity, tasks. Writes evals/NAME.json.

    Prints the figures, and of each task the accuracy that a child keeps beyond chance: (child - chance) / (parent -
    chance), with a 95 % interval from a paired bootstrap over its items. Warns of a child that is near its parent on one
    text and far from it on another. Interrupt it at any moment: models that are finished are kept.
    """
    from puzzledsl.cli.output import print_diagnostics
    from puzzledsl.ir.tables import Evaluation
    from puzzledsl.pipeline.text.evaluation_text import disagreeing_texts, evaluation_text

    ctx, wanted = _stage("eval", "eval", lambda p: p.evals, file, names, build, set_)
    found = [ctx.load(ctx.build.evaluation(name), Evaluation, "eval", name) for name in wanted]
    print("\n\n".join(map(evaluation_text, found)))
    print_diagnostics(disagreeing_texts(ctx, wanted), {})


def export(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Write children where the program says, each for its runtime: hf (transformers, vLLM, Megatron), gguf or mlx."""
    _stage("export", "export", lambda p: p.exports, file, names, build, set_)


def report(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Write the pictures, too, as SVG and PNG for papers."),
    ] = None,
) -> None:
    """Write report.html: one self-contained page with everything that is in the build directory."""
    from puzzledsl.cli import loading
    from puzzledsl.pipeline import tasks
    from puzzledsl.pipeline.execute import execute, locked

    ctx = loading.context(file, set_, build)
    with locked(ctx):
        execute(ctx, [tasks.report(ctx)], force=True)
        if figures is not None:
            from puzzledsl.report.artefacts import load_artefacts
            from puzzledsl.report.pictures.figures import write_figures

            for path in write_figures(load_artefacts(ctx.program, ctx.build), figures):
                print(path)
    print(ctx.build.report)


def _stage(
    stage: str,
    kind: str,
    declared: Callable[[Program], Mapping[str, object]],
    file: Path,
    names: list[str] | None,
    build: Path | None,
    set_: list[str] | None,
    *,
    heal: bool = True,
    on: str | None = None,
) -> tuple[Context, list[str]]:
    """Do one stage for the chosen declarations, skipping those that are fresh."""
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.cli import loading
    from puzzledsl.pipeline import tasks
    from puzzledsl.pipeline.execute import execute, locked
    from puzzledsl.pipeline.process.reporter import Reporter
    from puzzledsl.pipeline.rounds import refining
    from puzzledsl.pipeline.targets import chosen

    ctx = loading.context(file, set_, build)
    ctx.heal, ctx.on = heal, on
    wanted = chosen(kind, declared(ctx.program), names, ctx.file, stage)
    known = {"eval": tasks.evaluate, "refine": refining.refine}
    make: Callable[[Context, str], Task] = known.get(stage) or getattr(tasks, stage)
    try:
        with locked(ctx), Reporter(ctx.build.log) as progress:
            ctx.progress = progress
            for task, done in execute(ctx, [make(ctx, name) for name in wanted]):
                progress.say(f"{task.title}: {'done' if done else 'up to date'}")
    except DiagnosticError as error:
        loading.fail(error, {})
    return ctx, wanted
