"""`pzl why`: the regret of every other choice of a solved search, and the cost of each requirement. Loads no torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.completion import complete_declaration, if_asked
from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from puzzledsl.alternatives.alternative import Site
    from puzzledsl.base.diagnostics import Diagnostic
    from puzzledsl.pipeline.context import Context

TIME_S = 60.0
PLACE = re.compile(r"(?:layers\s*\[\s*(\d+)\s*\]|(\d+))(?:\s*\.\s*(attention|ffn))?|(embedding|head)")

SearchArgument = Annotated[
    str,
    typer.Argument(
        metavar="SEARCH",
        help="The search.",
        show_default=False,
        autocompletion=if_asked(complete_declaration),
    ),
]
PlaceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PLACE",
        help="One layer, sub-block or end: `layers[12].ffn`, `layers[12]`, `12`, `head`. Lists its alternatives, writes nothing.",
    ),
]
TimeOption = Annotated[
    float,
    typer.Option(
        "--time",
        metavar="SECONDS",
        min=0,
        help="Time limit. A regret that is not proven by then is given as bounds.",
    ),
]


def why(
    file: FileArgument,
    search: SearchArgument,
    place: PlaceArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
    time: TimeOption = TIME_S,
) -> None:
    """Explain the best child: the regret of every other choice, and the cost of each requirement.

    A regret is proven: it is how much worse the optimum gets if that alternative is fixed there and everything else is
    chosen anew; "cannot be met" if no such child meets the requirements. A requirement's margin is how much worse or
    better the optimum gets if its bound is moved by 1 % (a count by one), or if it is dropped.

    Writes build/why/SEARCH.json, which `pzl report` draws. With --json the same document: {"objective", "proven",
    "negligible", "sub_blocks": [{"layer", "sub_block", "chosen", "regrets": [{"alternative", "at_least", "at_most"}]}],
    "margins": [{"line", "text", "moves": [{"kind", "by", "bound", "at_least", "at_most"}]}]}. A regret is exact if
    both bounds are equal; null at both is "cannot be met", at "at_most" alone that no child was found in time.
    """
    from puzzledsl.cli.text import why_text
    from puzzledsl.ir.tables import WhyResult
    from puzzledsl.pipeline.compile import chosen, not_ready
    from puzzledsl.pipeline.execute import keep_regrets, regrets_of
    from puzzledsl.search.infeasible.verdicts import no_answer

    ctx = loading.context(file, set_, build)
    (name,) = chosen("search", ctx.program.searches, [search], ctx.file, "why")
    layer, sub_block = (None, None) if place is None else _place(ctx, name, place)
    problem: Diagnostic | None = not_ready(ctx, name)
    result = None if problem else regrets_of(ctx, name, layer, sub_block, time_s=time)
    if result is not None and not isinstance(result, WhyResult):
        problem = no_answer(ctx.program, result, f"--time {max(1, round(4 * time))}", time)
    if problem is not None:
        loading.print_diagnostics([problem], {})
        raise typer.Exit(1)
    assert isinstance(result, WhyResult)
    wrote = keep_regrets(ctx, result) if layer is None else None
    if json:
        loading.print_json(result.model_dump(mode="json"))
    else:
        print(why_text.as_text(ctx.program, result, ctx.file, wrote))


def _place(ctx: Context, search: str, text: str) -> tuple[int, Site | None]:
    """The layer and the site in it (None: both) that a user means; anything else is a usage error."""
    match = PLACE.fullmatch(text.strip())
    if match is None:
        message = f"`{text}` is no place; write `layers[12]`, `layers[12].ffn`, `12` or `head`"
        raise typer.BadParameter(message, param_hint="PLACE")
    space = ctx.program.spaces[ctx.program.searches[search].space]
    count = len(space.layers)
    if match[4] and space.ends is None:
        message = f"`space {space.name}` gives the {match[4]} no choice"
        raise typer.BadParameter(message, param_hint="PLACE")
    if match[4]:
        return count, "head" if match[4] == "head" else "embedding"
    layer = int(match[1] or match[2])
    if layer >= count:
        message = f"there is no layer {layer}: the layers are 0 to {count - 1}"
        raise typer.BadParameter(message, param_hint="PLACE")
    sub_block: Site | None = None
    if match[3]:
        sub_block = "attention" if match[3] == "attention" else "ffn"
    return layer, sub_block
