"""`pzl eval`: parent and children side by side."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, OnOption, SetOption


def eval_(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    on: OnOption = None,
) -> None:
    """Measure parent and children side by side: size, speed, KL, perplexity, tasks. Writes evals/NAME.json.

    Prints the figures, and of each task the accuracy that a child keeps beyond chance: (child - chance) / (parent -
    chance), with a 95 % interval from a paired bootstrap over its items. Warns of a child that is near its parent on one
    text and far from it on another. Interrupt it at any moment: models that are finished are kept.
    """
    from puzzledsl.cli import loading
    from puzzledsl.cli.output import print_diagnostics
    from puzzledsl.ir.tables import Evaluation
    from puzzledsl.pipeline.text.evaluation_text import evaluation_text, remarks
    from puzzledsl.pipeline.text.timing_text import drifted_parents

    ctx = loading.context(file, set_, build)
    ctx.on = on
    wanted = do_stage(ctx, "eval", names)
    found = [ctx.load(ctx.build.evaluation(name), Evaluation, "eval", name) for name in wanted]
    print("\n\n".join(map(evaluation_text, found)))
    print_diagnostics([*remarks(ctx, wanted), *drifted_parents(ctx, wanted)], {})
