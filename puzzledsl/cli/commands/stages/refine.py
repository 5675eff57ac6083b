"""`pzl refine`: measured children around an optimum or along a frontier."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, JsonOption, NamesArgument, SetOption


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
    from puzzledsl.cli import loading
    from puzzledsl.cli.output import print_json
    from puzzledsl.pipeline.inputs import refined_frontier_of, refinement_of
    from puzzledsl.pipeline.text.refined_text import refined_frontier_text, refinement_text

    ctx = loading.context(file, set_, build)
    documents, texts = [], []
    for name in do_stage(ctx, "refine", names):
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
