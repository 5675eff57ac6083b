"""`pzl status`: the state of every task of a program with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from puzzledsl.cli import loading
from puzzledsl.cli.loading import BuildOption, FileArgument, HealOption, JsonOption, SetOption

if TYPE_CHECKING:
    from puzzledsl.ir.tables import TextCounts
    from puzzledsl.pipeline.context import Context


def status(
    file: FileArgument,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
    heal: HealOption = True,
) -> None:
    """Show the state of every task of the program, with the reason. Changes nothing.

    `missing`: never made. `stale`: its inputs or its files have changed, or it depends on a task that is stale. `failed`:
    it failed when it was last tried. `pzl run` runs all of these.
    """
    from puzzledsl.pipeline.planning.dry_run import status_json, table
    from puzzledsl.pipeline.planning.status import statuses
    from puzzledsl.pipeline.process.locks import at_work

    ctx = loading.context(file, set_, build, heal=heal)
    found, holder = list(statuses(ctx)), at_work(ctx.build.root)
    if json:
        working = None if holder is None else holder.model_dump()
        texts = {
            name: [counts.model_dump(mode="json", exclude={"source"}) for counts in of_data]
            for name, of_data in _counts(ctx).items()
        }
        loading.print_json({"at_work": working, "tasks": [status_json(s) for s in found], "texts": texts})
        return
    if holder is not None:
        print(f"at work here: {holder}\n")
    rows = [(s.task.title, s.word, s.why) for s in found]
    print("\n".join(table(("task", "state", "why"), rows)))
    undone = sum(s.word != "done" for s in found)
    print(f"\n{undone} of {len(found)} to do" if undone else f"\nall {len(found)} done")


def _counts(ctx: Context) -> dict[str, tuple[TextCounts, ...]]:
    """Return the counts of the texts that are tokenised, by their declaration."""
    from puzzledsl.data.counts import counts_in

    return counts_in(ctx.build.tokens, ctx.program.data)
