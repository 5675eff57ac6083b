"""An evaluation as text, and its warnings: doubtful times, texts that disagree, requirements missed."""

from collections.abc import Iterator, Sequence

from puzzledsl.base.diagnostics import Args, Diagnostic, Mistake
from puzzledsl.base.phrases import aligned
from puzzledsl.base.units import BYTES, COUNT, TIME, format_quantity
from puzzledsl.ir.base import span_of
from puzzledsl.ir.references import search_behind
from puzzledsl.ir.tables import CostTable, Evaluation, Figure, Kept, ModelComparison, ModelFigures
from puzzledsl.pipeline import errors
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import evaluation_of
from puzzledsl.report.sections.measured import pooled_last

SPREAD = 0.15
"""Limit of the parent's robust standard deviation between rounds, as a share of its time, on a quiet machine."""


def doubtful_timings(ctx: Context, spaces: Sequence[str]) -> list[Diagnostic]:
    """Return a warning for each phase of a scenario whose measured times vary by more than SPREAD between rounds."""
    from puzzledsl.measure.errors import BusyMachine

    found: list[Diagnostic] = []
    for space in spaces:
        path = ctx.build.measured_costs(space)
        timings = ctx.load(path, CostTable, "measure", space).timings if path.is_file() else ()
        for timing in timings:
            if timing.scenario not in ctx.program.scenarios:
                continue
            said: Args = {"scenario": timing.scenario, "batch": timing.batch, "file": ctx.typed}
            span = span_of(ctx.program.scenarios[timing.scenario].where)
            for phase, spread in (("prefill", timing.prefill_spread), ("decode step", timing.decode_spread)):
                if spread > SPREAD:
                    found.append(BusyMachine(span, phase=phase, spread=f"{spread:.0%}", **said))
    return found


INTERVAL = "95% interval"
ABSENT = "-"  # a figure that only models in full have
BESIDE = ("checkpoint_bytes", "kl")
"""Figures in the table of an engine's own files, in addition to throughputs and the accuracy kept."""


def evaluation_text(evaluation: Evaluation) -> str:
    """Return tables in plain text: figures by model, the accuracy that each child keeps, then an engine's own files."""
    blocks = [_figures(evaluation), *(_kept_table(found) for found in evaluation.comparisons if found.kept)]
    return "\n\n".join(filter(None, [*blocks, ladder_text(evaluation)]))


def ladder_text(evaluation: Evaluation) -> str:
    """Return a table of the child and the engine's own files of the parent; empty without them."""
    ladder = evaluation.ladder
    if ladder is None:
        return ""
    size = {"checkpoint_bytes": Figure(value=ladder.child_bytes, unit="bytes")}
    child = next(model for model in evaluation.models if model.model == ladder.child)
    own = child.model_copy(update={"figures": child.figures | size})
    kept = {each.model: each.kept.get("pooled") for each in (*evaluation.comparisons, *ladder.comparisons)}
    keys = [key for key in own.figures if key in BESIDE or key.endswith(".throughput")]
    rows = []
    for model in (own, *ladder.models):
        figures, found = model.figures, kept[model.model]
        shown = [figure_text(key, figures[key]) if key in figures else ABSENT for key in keys]
        rows.append([model.model, *shown, ABSENT if found is None else kept_text(found)])
    named = ["file_bytes" if key == "checkpoint_bytes" else key for key in keys]
    return _table([[f"files of {ladder.engine}", *named, "kept beyond chance"], *rows])


def findings(ctx: Context, names: Sequence[str]) -> list[Diagnostic]:
    """Return the errors and warnings of finished evaluations: those of `ending_of`, then those of `remarks`."""
    return [*ending_of(ctx, names), *remarks(ctx, names)]


def ending_of(ctx: Context, names: Sequence[str]) -> list[Diagnostic]:
    """Return the report's `endings` of evaluated children as diagnostics: missed requirements, doubtful figures and others."""
    from puzzledsl.report.headline import endings
    from puzzledsl.report.subject import Subject, load_artefacts

    kinds: dict[str, Mistake] = {
        "missed": errors.MissedInTheEnd,
        "ladder": errors.LadderIsBetter,
        "too_few": errors.KnownTooLittle,
        "no_gain": errors.UptrainedForNothing,
        "given": errors.NotAsTheFileSays,
    }
    found = load_artefacts(ctx.program, ctx.build)
    evaluated = [ctx.program.evals[name].of for name in names if evaluation_of(ctx, name) is not None]
    searches = dict.fromkeys(search_behind(ctx.program, of) for of in evaluated)
    all_endings = dict.fromkeys(e for search in searches for e in endings(Subject(found, search)))
    return [
        kinds[e.kind](None if e.where is None else span_of(e.where), text=e.text, help=e.help or None)
        for e in all_endings
    ]


def remarks(ctx: Context, names: Sequence[str]) -> list[Diagnostic]:
    """Return a warning for each evaluated child that is near its parent on one text and far on another, or repeats itself."""
    from puzzledsl.evaluate.errors import RepeatsItself, TextsDisagree

    found: list[Diagnostic] = []
    for name in names:
        evaluation, span = evaluation_of(ctx, name), span_of(ctx.program.evals[name].where)
        for comparison in () if evaluation is None else evaluation.comparisons:
            if (gap := comparison.text_gap) is not None:
                shown: Args = {"text": gap.near, "text_kl": f"{gap.near_kl:.3g}"}
                shown |= {"other": gap.far, "other_kl": f"{gap.far_kl:.3g}"}
                found.append(TextsDisagree(span, model=comparison.model, **shown))
            if (said := comparison.repetition) is not None and said.remarkable:
                child, parent = f"{said.child:.0%}", f"{said.parent:.0%}"
                found.append(RepeatsItself(span, model=comparison.model, child=child, parent=parent))
    return found


def figure_text(key: str, figure: Figure) -> str:
    """Format a measured figure, with its standard error if it has one."""
    if key == "params":
        dimension = COUNT
    elif key.endswith("_bytes"):
        dimension = BYTES
    elif key.endswith("_s") and not key.endswith("per_s"):
        dimension = TIME
    else:
        return f"{figure.value:.4g}" + (f" ± {figure.stderr:.2g}" if figure.stderr else "")
    error = f" ± {format_quantity(figure.stderr, dimension, 2)}" if figure.stderr else ""
    return format_quantity(figure.value, dimension) + error


def _figures(evaluation: Evaluation) -> str:
    models = evaluation.models
    rows = [list(_rows(model, evaluation.texts)) for model in models]
    keys = list(dict.fromkeys(key for row in rows for key, _ in row))
    texts = [dict(row) for row in rows]
    header = [evaluation.eval, *(model.model for model in models)]
    return _table([header, *([key, *(text.get(key, ABSENT) for text in texts)] for key in keys)])


def _rows(model: ModelFigures, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield labels and figures. With several data sets, a figure of text has a row for each: `kl on NAME`."""
    by_text = {name: model.texts[name] for name in names if name in model.texts} if len(names) > 1 else {}
    for key, figure in model.figures.items():
        if any(key in figures for figures in by_text.values()):
            yield from ((f"{key} on {name}", figure_text(key, of[key])) for name, of in by_text.items())
        else:
            yield key, figure_text(key, figure)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = list(aligned(rows))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


AT_CHANCE = {"child_at_chance": "at chance", "parent_at_chance": "the parent is at chance"}


def kept_text(kept: Kept) -> str:
    """Format the accuracy kept beyond chance: `82.3%`, `at chance` or `the parent is at chance`."""
    return AT_CHANCE.get(kept.verdict) or f"{kept.chance_corrected:.1%}"


def interval_text(kept: Kept) -> str:
    """Format the interval of the accuracy kept: `74.1% … 90.6%`; empty if there is none."""
    return "" if kept.low is None or kept.high is None else f"{kept.low:.1%} … {kept.high:.1%}"


def _kept_table(found: ModelComparison) -> str:
    head = f"accuracy {found.model} keeps", "beyond chance", INTERVAL, "plain", "parent", "child", "chance"
    rows: list[Sequence[str]] = [head]
    for name, kept in pooled_last(found.kept):
        shares = ("" if v is None else f"{v:.1%}" for v in (kept.plain, kept.parent, kept.child, kept.chance))
        rows.append([name, kept_text(kept), interval_text(kept), *shares])
    return _table(rows)
