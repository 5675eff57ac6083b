"""Inputs of stages: jobs, costs, scores, solutions, children, and the digests of those and of healing.

And the tasks that make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir import nodes, tables
from puzzledsl.ir.base import span_of
from puzzledsl.ir.references import children_evaluated, children_in_full, mentioned_scores, scenarios_read
from puzzledsl.pipeline.context import Context, Key, data_fingerprint, digest_of, failure_of, failures
from puzzledsl.pipeline.errors import NoSolution, NotReady

if TYPE_CHECKING:
    from puzzledsl.export.gguf_recipe import Importance


def jobs_of(ctx: Context, bld: str) -> tuple[tables.BldJob, ...]:
    """Return the jobs of a BLD declaration that make pieces of layers: those of the head are left out."""
    from puzzledsl.plan.bld import bld_plan

    return bld_plan(ctx.program, bld)


def pieces_of(ctx: Context, bld: str) -> tuple[tables.BldJob, ...]:
    """Return all jobs of a BLD declaration: those of layers, then those of the output head."""
    from puzzledsl.plan.bld import head_jobs

    return (*jobs_of(ctx, bld), *head_jobs(ctx.program, bld))


def measured_scenarios(program: nodes.Program) -> list[str]:
    """Return the scenarios whose costs must be measured on this machine."""
    hardware, scenarios = program.hardware, program.scenarios.items()
    return [n for n, s in scenarios if isinstance(hardware[s.hardware].spec, nodes.MeasuredHardware)]


def costs_of(ctx: Context, space: str) -> tables.CostTable:
    """Return the cost table of a space: analytic costs, those read from tables, and those that `pzl measure` has made."""
    from puzzledsl.costs.table import cost_table, merge, with_running_costs

    read = [h.spec.path for h in ctx.program.hardware.values() if isinstance(h.spec, nodes.TableHardware)]
    key = ("costs", space, *(file_version(ctx.base / path) for path in read))
    found = [ctx.once(key, lambda: cost_table(ctx.program, space, ctx.base))]
    if ctx.stamps.read("measure", space):
        measured = ctx.load(ctx.build.measured_costs(space), tables.CostTable, "measure", space)
        found.append(with_running_costs(ctx.program, measured))
    return merge(*found)


def scores_of(ctx: Context, search: str) -> dict[str, tables.ScoreTable]:
    """Return the score tables of a search's space, by score: finished measured ones, and those read from files."""
    space = ctx.program.searches[search].space
    found: dict[str, tables.ScoreTable] = {}
    for name, score in ctx.program.scores.items():
        if score.space != space:
            continue
        if isinstance(score.method, nodes.ScoreFromTable):
            from puzzledsl.search.score_table import read_score_table

            path = ctx.base / score.method.path
            found[name] = ctx.once(
                ("scores", name, file_version(path)),
                lambda: read_score_table(path, score, ctx.program.spaces[space]),  # noqa: B023 (called at once)
            )
        elif ctx.stamps.read("score", name):
            found[name] = ctx.load(ctx.build.scores(name), tables.ScoreTable, "score", name)
    return found


def read_tables(ctx: Context, search: str) -> tuple[tables.CostTable, dict[str, tables.ScoreTable]]:
    """Return the costs and scores that a search reads."""
    return costs_of(ctx, ctx.program.searches[search].space), scores_of(ctx, search)


def table_inputs(ctx: Context, search: str) -> dict[str, str]:
    """Digests of the costs and scores that a search reads."""
    costs, found = read_tables(ctx, search)
    scores = {name: table.digest() for name, table in sorted(found.items())}
    return {"costs": costs.digest(), "scores": digest_of(scores)}


def missing_tables(ctx: Context, search: str) -> dict[str, str]:
    """Return the scores, then the costs, that a search needs and that are missing, in words -> the command that makes them."""
    declared, (costs, found), file = ctx.program.searches[search], read_tables(ctx, search), ctx.typed
    scores = sorted({*mentioned_scores(declared)} - found.keys())
    made = {
        f"score `{n}`": f"`pzl score {file} {n}` makes the scores (after `pzl bld {file}`)" for n in scores
    }
    measured = f"`pzl measure {file}` measures costs on this machine"
    scenarios = sorted(scenarios_read(declared) - costs.scenarios.keys())
    return made | {f"costs of scenario `{name}`": measured for name in scenarios}


def ready_tables(ctx: Context, search: str) -> tuple[tables.CostTable, dict[str, tables.ScoreTable]]:
    """Return the costs and scores that a search reads. Raises DiagnosticError (NotReady) with commands that make missing ones."""
    if missing := missing_tables(ctx, search):
        where, help = span_of(ctx.program.searches[search].where), "; ".join(sorted({*missing.values()}))
        raise DiagnosticError(NotReady(where, name=search, missing=" and ".join(missing), help=help))
    return read_tables(ctx, search)


def tables_version(ctx: Context) -> tuple[object, ...]:
    """Return a value that changes when costs or scores that a search may read are made anew or edited."""
    made = [ctx.stamps.path("measure", space) for space in ctx.program.spaces]
    made += [ctx.stamps.path("score", score) for score in ctx.program.scores]
    specs = [hardware.spec for hardware in ctx.program.hardware.values()]
    methods = [score.method for score in ctx.program.scores.values()]
    read = [spec.path for spec in specs if isinstance(spec, nodes.TableHardware)]
    read += [method.path for method in methods if isinstance(method, nodes.ScoreFromTable)]
    return tuple(map(file_version, [*made, *(ctx.base / path for path in read)]))


def file_version(path: Path) -> tuple[int, int] | None:
    """Return a file's modification time and size; None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def data_inputs(ctx: Context, *names: str | None) -> dict[str, str]:
    """Return one digest of the data sets `names`, as `{"data": digest}`. None is skipped; empty if nothing else is given."""
    texts = [data_fingerprint(ctx.program.data[text], ctx.base) for text in names if text]
    if not texts:
        return {}
    return {"data": texts[0] if len(texts) == 1 else digest_of(texts)}


def solution_of(ctx: Context, search: str) -> tables.SearchResult:
    """Return a search's answer, which may have no solution. Raises DiagnosticError if it is missing or damaged."""
    return ctx.load(ctx.build.solution(search), tables.SearchResult, "solve", search)


def best_solution(ctx: Context, search: str) -> tables.SearchResult:
    """Return a search's answer. Raises DiagnosticError if it is not solved yet or has no solution."""
    ctx.made("solve", search, "the solutions")
    result = solution_of(ctx, search)
    if not result.solutions:
        where = span_of(ctx.program.searches[search].where)
        raise DiagnosticError(NoSolution(where, name=search, file=ctx.typed))
    return result


def refinement_of(ctx: Context, search: str) -> tables.Refinement | None:
    """Return the children measured around a search's optimum, None without `refine`. Raises DiagnosticError until measured."""
    if ctx.program.searches[search].refine is None:
        return None
    ctx.made("refine", search, "the measured children")
    return ctx.load(ctx.build.refinement(search), tables.Refinement, "refine", search)


def chosen_child(ctx: Context, search: str) -> tables.Solution:
    """Return the child to build: with `refine` the best measured one, else the solver's. Raises DiagnosticError until known."""
    result = best_solution(ctx, search)
    refinement = refinement_of(ctx, search)
    return result.solutions[0] if refinement is None else refinement.solution


def child_so_far(ctx: Context, search: str) -> tables.Solution:
    """Return the child to build, or the solver's while no children are measured yet."""
    if ctx.stamps.read("refine", search) is None:
        return best_solution(ctx, search).solutions[0]
    return chosen_child(ctx, search)


def evaluated_models(ctx: Context, name: str) -> tuple[dict[str, Path], set[str]]:
    """Return the directories of an evaluation's finished children, and the names of all that also get tasks and timing."""
    names = children_evaluated(ctx.program, name)
    failed = {failure.name for failure in failures(ctx.build) if failure.stage in ("realise", "uptrain")}
    made = {n: ctx.build.model(n) for n in names if ctx.build.model(n).is_dir() and n not in failed}
    return made, set(children_in_full(ctx.program, name))


def evaluation_of(ctx: Context, name: str) -> tables.Evaluation | None:
    """Return an evaluation, perhaps without failed parts; None if not made or all failed. Raises DiagnosticError if damaged."""
    failure = failure_of(ctx.build, "eval", name)
    if ctx.stamps.read("eval", name) is None or (failure is not None and not failure.partly):
        return None
    return ctx.load(ctx.build.evaluation(name), tables.Evaluation, "eval", name)


HEALING = "2"
"""Version of the healing method; raised when it changes, so that children healed before are made again."""


def healing_of_children(ctx: Context, blds: Sequence[str]) -> str:
    """Digest of how built children are healed: method, tokens and text of each BLD. "none" if children are not healed."""
    if not ctx.heal:
        return "none"
    declared = [ctx.program.blds[name] for name in blds]
    healing = [name for name in blds if ctx.program.blds[name].heal_tokens]
    method = [HEALING, [bld.heal_tokens for bld in declared], _texts(ctx, healing)]
    refined = _refined_samples(ctx)
    return digest_of([*method, refined] if refined else method)


def healing_of_scores(ctx: Context, blds: Sequence[str]) -> str:
    """Digest of how children are healed before they are scored: method, text, and the most positions that are measured."""
    methods = [score.method for score in ctx.program.scores.values()]
    samples = [method.samples for method in methods if isinstance(method, nodes.ReplaceOne)]
    return digest_of([HEALING, _texts(ctx, blds), max([*samples, *_refined_samples(ctx)])])


def blds_of(program: nodes.Program, space: str) -> list[str]:
    """Return the BLDs that make the pieces of a space."""
    return [name for name, bld in program.blds.items() if bld.space == space]


def healed_from(ctx: Context, search: str, layers: Sequence[tables.Assignment]) -> dict[str, str]:
    """Digests of all that a healed child of a search depends on. Raises DiagnosticError where pieces are not there."""
    space = ctx.program.searches[search].space
    blds = blds_of(ctx.program, space)
    return {
        "layers": digest_of([layer.model_dump() for layer in layers]),
        "parent": ctx.fingerprint(space, "realise"),
        "healing": healing_of_children(ctx, blds),
        **{bld: ctx.made("bld", bld, "the pieces") for bld in blds},
    }


def healing_work(ctx: Context, search: str, layers: Sequence[tables.Assignment]) -> Path:
    """Return the folder in which a search's child with these layers is healed: stages `refine` and `realise` share it."""
    return ctx.build.work("realise", f"{search}-{digest_of(healed_from(ctx, search, layers))[:16]}")


def _refined_samples(ctx: Context) -> list[int]:
    """Return the number of positions that each search with `refine` measures children on. No child is healed on those."""
    return [search.refine.samples for search in ctx.program.searches.values() if search.refine is not None]


def _texts(ctx: Context, blds: Sequence[str]) -> list[dict[str, str]]:
    declared = [ctx.program.blds[name] for name in blds]
    return [data_inputs(ctx, bld.heal_data or bld.data) for bld in declared]


def importance(ctx: Context, space: str, model: Path) -> Importance | None:
    """Return a model's importance matrix on the healing (else calibration) text of a space's first BLD; None without one."""
    from puzzledsl.child.healing.walk import healing_text
    from puzzledsl.export.gguf_recipe import importance_of
    from puzzledsl.models.families.load import load_tokenizer

    for bld in ctx.program.blds.values():
        if bld.space == space:
            given = load_tokenizer(model), ctx.build.tokens, ctx.progress
            read = bld.model_copy(update={"heal_tokens": bld.heal_tokens or bld.calibration_tokens})
            text = healing_text(ctx.program, read, ctx.base, *given)
            return None if text is None else importance_of(model, text[0], ctx.progress)
    return None


def narrowing(ctx: Context, space: str) -> tuple[Key, ...]:
    """Return the task that solves the search whose solutions narrow a space; empty for a space without `used_by`."""
    used_by = ctx.program.spaces[space].used_by
    return (("solve", used_by.search),) if used_by else ()


def table_tasks(ctx: Context, search: str) -> tuple[Key, ...]:
    """Return the tasks that make what a search reads: measured costs, measured scores, and the search that narrows its space."""
    space, scores = ctx.program.searches[search].space, ctx.program.scores.items()
    made = [n for n, s in scores if isinstance(s.method, nodes.ReplaceOne) and s.space == space]
    measured = [("measure", space)] if measured_scenarios(ctx.program) else []
    return (*narrowing(ctx, space), *measured, *(("score", name) for name in made))


def piece_tasks(program: nodes.Program, space: str) -> tuple[Key, ...]:
    """Return the tasks that make the pieces of a space."""
    return tuple(("bld", name) for name in blds_of(program, space))


def child_task(program: nodes.Program, model: str) -> Key:
    """Return the task that makes a child's checkpoint."""
    return "uptrain" if model in program.uptrains else "realise", model


def has_child(ctx: Context, search: str) -> bool:
    """Return True if a search's child is to be built: it is wanted, the parent has weights, and a BLD makes pieces.

    A search that is not solved yet is expected to have a solution.
    """
    program, declared = ctx.program, ctx.program.searches[search]
    parent = program.parents[program.spaces[declared.space].parent]
    has_weights = isinstance(parent.source, nodes.HfSource)
    if not (declared.realise and has_weights and blds_of(program, declared.space)):
        return False
    try:
        return bool(solution_of(ctx, search).solutions)
    except DiagnosticError:  # not solved, or damaged and solved again
        return True
