"""Statements of the page on a part of a search, against the same worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from puzzledsl.ir.nodes import (
    Compare,
    CountTerm,
    FactTerm,
    Linear,
    LinearRequirement,
    LogicRequirement,
    MetricTerm,
    Or,
    ParamsTerm,
    ScoreTerm,
    TableTerm,
    Term,
    WeightedTerm,
)
from puzzledsl.ir.tables import Figure, LayerAssignment, RunScore, ScoreTable, TextGap
from puzzledsl.report.artefacts import Artefacts, load_artefacts
from puzzledsl.report.headline import headlines, verdict
from puzzledsl.report.pictures.architecture import strip_of
from puzzledsl.report.pictures.curves import curves
from puzzledsl.report.sections.measured import comparisons, kept_tables, number_of, predictions, text_gaps
from puzzledsl.report.sections.requirements import requirement_lines, value_of
from puzzledsl.report.sections.searches import describe
from puzzledsl.report.subject import Subject
from puzzledsl.report.write import write_report

PARENT = LayerAssignment(attention="parent", ffn="parent")
TABLE = TableTerm(
    attention=("parent", "gqa1", "linear", "noop"),
    ffn=(),
    values=tuple((Fraction(v),) for v in (5, 3, 2, 0)),
    layers=(1, 2, 3),
)


@pytest.fixture
def found(built: Any) -> Artefacts:
    return load_artefacts(built.program, built.build)


def linear(*terms: tuple[int, Term], constant: int = 0) -> Linear:
    weighted = tuple(WeightedTerm(coefficient=Fraction(c), term=t) for c, t in terms)
    return Linear(terms=weighted, constant=Fraction(constant))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (linear((1, ScoreTerm(score="kl"))), "kl"),
        (
            linear((2, MetricTerm(scenario="chat", metric="latency")), (1, ParamsTerm()), constant=3),
            "2 * chat.latency + params + 3",
        ),
        (linear((1, FactTerm(sub_block="ffn", attribute="width", layers=(0, 1)))), "sum(ffn.width)"),
        (
            linear((1, CountTerm(sub_block="attention", alternatives=("noop", "linear"), layers=(0,)))),
            "count(attention is noop | linear)",
        ),
        (linear((1, TABLE)), "a table over 3 layers"),
        (linear(), "0"),
    ],
)
def test_goals_in_words(expression: Linear, words: str) -> None:
    assert describe(expression) == words


def test_values_of_a_child_and_of_the_parent(found: Artefacts) -> None:
    """Without what the search recorded they follow from the shape, and are the same."""
    subject = Subject(found, "fast")
    best, space = subject.best, range(1, 4)
    assert best is not None
    bare = best.model_copy(update={"metrics": {}})
    assert value_of(subject, linear((1, ParamsTerm())), bare) == best.metrics["params"]
    widths = {"parent": 1536, "mlp1152": 1152, "mlp768": 768, "mlp384": 384, "mlp154": 154}
    width = linear((2, FactTerm(sub_block="ffn", attribute="width", layers=tuple(space))), constant=1)
    assert value_of(subject, width, bare) == 1 + 2 * sum(widths.get(best.layers[i].ffn, 0) for i in space)
    assert value_of(subject, width, None) == 1 + 2 * 3 * 1536
    by_name = {"parent": 5, "gqa1": 3, "linear": 2, "noop": 0}
    assert value_of(subject, linear((1, TABLE)), bare) == sum(
        by_name[best.layers[i].attention] for i in space
    )
    assert value_of(subject, linear((1, TABLE)), None) == 15
    assert value_of(subject, linear((1, ScoreTerm(score="kl"))), bare) is None
    assert value_of(subject, linear((1, ScoreTerm(score="kl"))), None) == 0


@pytest.mark.parametrize(
    ("op", "mark"), [("<=", "met"), (">=", "met"), ("==", "met"), ("<", "missed"), (">", "missed")]
)
def test_a_bound_that_is_just_reached(found: Artefacts, op: str, mark: str) -> None:
    [*before, last] = (
        r for r in found.program.searches["fast"].requirements if isinstance(r, LinearRequirement)
    )
    subject = Subject(found, "fast")
    achieved = value_of(subject, last.left, subject.best)
    assert achieved is not None and before
    bound = last.model_copy(update={"op": op, "bound": Fraction(achieved)})
    search = subject.search.model_copy(update={"requirements": (bound,)})
    program = found.program.model_copy(update={"searches": {**found.program.searches, "fast": search}})
    found.program = program
    [line] = requirement_lines(Subject(found, "fast"))
    assert line.mark == mark
    unknown = bound.model_copy(update={"left": linear((1, ScoreTerm(score="other")))})
    found.program.searches["fast"] = search.model_copy(update={"requirements": (unknown,)})
    [line] = requirement_lines(Subject(found, "fast"))
    assert (line.mark, line.predicted) == ("unknown", None)


@pytest.mark.parametrize(("op", "mark"), [(">=", "met"), ("<", "missed")])
def test_a_comparison_of_facts_inside_a_formula(found: Artefacts, op: Any, mark: str) -> None:
    heads = linear((1, FactTerm(sub_block="attention", attribute="kv_heads", layers=(0, 1))))
    formula = Or(operands=(Compare(left=heads, op=op, bound=Fraction(0)), Or(operands=())))
    search = Subject(found, "fast").search
    where = search.requirements[0].where
    stated = search.model_copy(update={"requirements": (LogicRequirement(formula=formula, where=where),)})
    found.program = found.program.model_copy(update={"searches": {**found.program.searches, "fast": stated}})
    [line] = requirement_lines(Subject(found, "fast"))
    assert line.mark == mark


def test_a_figure_that_is_no_number_is_called_so() -> None:
    assert number_of("kl", Figure(value=float("nan"))).text == "not finite"
    assert number_of("chat.latency_s", Figure(value=float("inf"))).text == "not finite"


def test_latencies_are_compared_as_speeds(found: Artefacts) -> None:
    """Without a measured throughput, the speed-up comes from latencies, predicted and measured."""
    [evaluation] = found.evaluations.values()
    models = []
    for model, seconds in zip(evaluation.models, (4.0, 2.0, 2.0), strict=False):
        figures = {k: f for k, f in model.figures.items() if not k.startswith("chat.")}
        models.append(
            model.model_copy(update={"figures": {**figures, "chat.latency_s": Figure(value=seconds)}})
        )
    found.evaluations["all"] = evaluation.model_copy(update={"models": tuple(models)})
    subject = Subject(found, "fast")
    rows = dict(predictions(subject))["chat"]
    both = rows[-1]
    assert both.measured.value == 2.0  # twice as fast
    guess = subject.predicted("chat", "parent")["latency"] / subject.predicted("chat")["latency"]
    assert both.predicted.value == pytest.approx(guess)
    assert [h.number.value for h in headlines(subject) if h.label == "faster, measured"] == [2.0]


def test_a_task_counts_once_in_what_is_kept(found: Artefacts) -> None:
    """Its length-normalised twin is another reading of the same items."""
    [evaluation] = found.evaluations.values()
    models = []
    for model, (plain, normed) in zip(evaluation.models, ((0.4, 0.8), (0.3, 0.1), (0.3, 0.1)), strict=False):
        more = {"hellaswag": Figure(value=plain), "hellaswag_norm": Figure(value=normed)}
        models.append(model.model_copy(update={"figures": {**model.figures, **more}}))
    found.evaluations["all"] = evaluation.model_copy(update={"models": tuple(models), "comparisons": ()})
    [kept] = [h for h in headlines(Subject(found, "fast")) if h.label == "of accuracy kept"]
    assert kept.number.value == pytest.approx(0.75)
    assert "40.0% → 30.0%" in kept.detail


def guessing(found: Artefacts, **changes: Any) -> Subject:
    """The build, with `changes` to what the trained child keeps of all tasks."""
    [evaluation] = found.evaluations.values()
    final = evaluation.comparisons[1]
    pooled = final.kept["pooled"].model_copy(update=changes)
    kept = {**final.kept, "hellaswag": pooled, "pooled": pooled}
    others = [c for c in evaluation.comparisons if c is not final]
    update = {"comparisons": (*others, final.model_copy(update={"kept": kept}))}
    found.evaluations["all"] = evaluation.model_copy(update=update)
    return Subject(found, "fast")


def test_a_child_at_chance_is_said_to_be(found: Artefacts) -> None:
    subject = guessing(found, verdict="child_at_chance", chance_corrected=0.11, low=-0.08, high=0.31)
    [headline] = [h for h in headlines(subject) if h.label == "accuracy"]
    assert headline.number.text == "at chance" and "95 % interval -8.0 … 31.0 %" in headline.detail
    assert "answers no better than chance" in verdict(subject) and "keeps" not in verdict(subject)
    rows = {row.task: row for row in kept_tables(subject)[-1].rows}
    assert (rows["hellaswag"].kept, rows["hellaswag"].said) == (None, "at chance")


def test_a_parent_at_chance_leaves_nothing_to_keep(found: Artefacts) -> None:
    subject = guessing(found, verdict="parent_at_chance", chance_corrected=None, low=None, high=None)
    [headline] = [h for h in headlines(subject) if h.label == "parent's accuracy"]
    assert headline.number.text == "at chance" and headline.detail.startswith("nothing to keep")
    assert "accuracy" not in verdict(subject)


def test_texts_are_shown_each_and_said_to_disagree(found: Artefacts) -> None:
    [evaluation] = found.evaluations.values()
    models = []
    for model in evaluation.models:
        kl, far = model.figures.get("kl", Figure(value=0)), Figure(value=1.41)
        texts = {"prose": {"kl": kl}, "code": {"kl": far if model.model == "final" else kl}}
        models.append(model.model_copy(update={"texts": texts}))
    gap = TextGap(near="prose", far="code", near_kl=0.08834, far_kl=1.41)
    told = tuple(
        c.model_copy(update={"text_gap": gap}) if c.model == "final" else c for c in evaluation.comparisons
    )
    found.evaluations["all"] = evaluation.model_copy(
        update={"models": tuple(models), "comparisons": told, "texts": ("prose", "code")}
    )
    subject = Subject(found, "fast")
    [table] = comparisons(subject)
    groups = {title: rows for title, rows in table.groups if title.startswith("on ")}
    assert list(groups) == ["on prose", "on code"]
    shown = {row.label: row.cells for row in groups["on code"]}["KL divergence to the parent"]
    assert shown[-1] is not None and shown[-1].value == 1.41
    assert text_gaps(subject) == [
        "final is made for prose: its KL to the parent is 0.0883 there and 1.41 on code."
    ]
    [headline] = [h for h in headlines(subject) if h.label == "KL to the parent"]
    assert headline.detail.endswith("; KL 1.41 on code")


def in_full(found: Artefacts, *names: str) -> Subject:
    """The build, with an evaluation whose `full` names children: these alone have an accuracy."""
    [evaluation] = found.evaluations.values()
    accuracy, models, comparisons = Figure(value=0.4), [], []
    for model in evaluation.models:
        figures = {k: f for k, f in model.figures.items() if k != "hellaswag" or model.model == "parent"}
        figures |= {"hellaswag": accuracy} if model.model in names else {}
        models.append(model.model_copy(update={"figures": figures}))
    kept = evaluation.comparisons[0].kept
    for comparison in evaluation.comparisons:
        update = {"kept": kept if comparison.model in names else {}}
        comparisons.append(comparison.model_copy(update=update))
    changed = {"models": tuple(models), "comparisons": tuple(comparisons)}
    found.evaluations["all"] = evaluation.model_copy(update=changed)
    declaration = found.program.evals["all"].model_copy(update={"full": names})
    found.program = found.program.model_copy(update={"evals": {"all": declaration}})
    return Subject(found, "fast")


def test_children_in_full_stand_in_the_tables_whatever_their_search(found: Artefacts) -> None:
    subject = in_full(found, "final", "greedy")
    [table] = comparisons(subject)
    assert table.models == ("parent", "greedy", "fast", "final")
    [row] = [row for _, rows in table.groups for row in rows if row.label == "hellaswag"]
    assert [cell and cell.value for cell in row.cells] == [0.4312, 0.4, None, 0.4]
    assert row.change is not None and row.change.value == pytest.approx(0.4 / 0.4312)
    assert [kept.model for kept in kept_tables(subject)] == ["final", "greedy"]
    times = next(rows for title, rows in table.groups if title == "chat")
    assert {cell for row in times for cell in (row.cells[1], row.cells[3])} == {None}


def test_pairs_that_were_scored_and_measured_together_are_shown_as_one(found: Artefacts) -> None:
    subject = Subject(found, "fast")
    best, table = subject.best, found.costs["wide"]
    assert best is not None
    names = [f"{x.attention}/{x.ffn}" for x in best.layers]
    [costs] = table.scenarios["chat"]
    sums = tuple(
        {name: a[x.attention].model_copy(update={"decode_ns": 10**6 * (i + 1), "prefill_ns": 0})}
        for i, (a, x, name) in enumerate(zip(costs.attention, best.layers, names, strict=True))
    )
    together = costs.model_copy(update={"pairs": sums})
    found.costs["wide"] = table.model_copy(update={"scenarios": {**table.scenarios, "chat": (together,)}})
    scores = tuple({name: 0.5 + i} for i, name in enumerate(names))
    found.scores["kl"] = ScoreTable(score="kl", metric="kl_divergence", samples=1, unit="block", pairs=scores)
    strip = strip_of(Subject(found, "fast"))
    assert strip is not None
    assert [c.score.value for c in strip.columns if c.score] == [0.5 + i for i in range(30)]
    assert [c.time.value for c in strip.columns if c.time] == pytest.approx(
        [1.024 * (i + 1) for i in range(30)]
    )


def test_dropped_layers_share_the_score_of_their_run(found: Artefacts) -> None:
    best, dropped = found.results["fast"].solutions[0], LayerAssignment(attention="noop", ffn="noop")
    kept = LayerAssignment(attention="parent", ffn="parent")
    layers = tuple(dropped if i in (3, 4, 8) else kept for i in range(len(best.layers)))
    child = best.model_copy(update={"layers": layers})
    found.results["fast"] = found.results["fast"].model_copy(update={"solutions": (child,)})
    runs = (RunScore(first=3, length=2, value=0.5), RunScore(first=7, length=2, value=9.0))
    found.scores["kl"] = table = found.scores["kl"].model_copy(update={"runs": runs})
    strip = strip_of(Subject(found, "fast"))
    assert strip is not None
    scores = [column.score.value if column.score else None for column in strip.columns]
    assert scores[2:6] == [0, 0.25, 0.25, 0]
    assert scores[8] == table.attention[8]["noop"] + table.ffn[8]["noop"]


def test_a_child_of_another_version_of_the_space_has_no_figures(found: Artefacts) -> None:
    best = found.results["fast"].solutions[0]
    others = (best.layers[:-1], (*best.layers[:-1], LayerAssignment(attention="parent", ffn="mlp5")))
    for layers in others:
        other = best.model_copy(update={"layers": layers})
        found.results["fast"] = found.results["fast"].model_copy(update={"solutions": (other,)})
        assert Subject(found, "fast").best is None
    found.results["fast"] = found.results["fast"].model_copy(
        update={"solutions": (best.model_copy(update={"metrics": {}}),)}
    )
    [costs] = found.costs["wide"].scenarios["chat"]
    shorter = costs.model_copy(update={"attention": ({"parent": costs.attention[0]["parent"]},) * 30})
    found.costs["wide"] = found.costs["wide"].model_copy(update={"scenarios": {"chat": (shorter,)}})
    assert Subject(found, "fast").predicted("chat") == {}


def test_frontiers_of_other_searches_and_of_one_point_are_no_curves(found: Artefacts) -> None:
    subject = Subject(found, "fast")
    assert [c.name for c in curves(subject)] == ["curve"]
    assert curves(Subject(found, "greedy")) == []
    whole = found.frontiers["curve"]
    found.frontiers["curve"] = whole.model_copy(update={"points": (whole.points[0], whole.points[-1])})
    assert curves(subject) == []


def test_the_verdict_without_any_speed(found: Artefacts) -> None:
    found.costs.clear()
    found.evaluations.clear()
    result = found.results["fast"]
    best = result.solutions[0].model_copy(
        update={"metrics": {"params": result.solutions[0].metrics["params"]}}
    )
    found.results["fast"] = result.model_copy(
        update={"solutions": (best,), "parent_metrics": {"params": result.parent_metrics["params"]}}
    )
    said = verdict(Subject(found, "fast"))
    assert said.startswith("The child has ") and "fast as" not in said


@pytest.mark.parametrize(
    ("share", "words"), [(1, "as many"), (1.0001, "as many"), (0.9, "10.0 % fewer"), (1.2, "20.0 % more")]
)
def test_the_verdict_on_parameters(found: Artefacts, share: float, words: str) -> None:
    found.costs.clear()
    found.evaluations.clear()
    result = found.results["fast"]
    best = result.solutions[0].model_copy(update={"metrics": {"params": share * 1e9}})
    found.results["fast"] = result.model_copy(
        update={"solutions": (best,), "parent_metrics": {"params": 1e9}}
    )
    assert verdict(Subject(found, "fast")).startswith(f"The child has {words} parameters. ")


def test_a_damaged_line_of_the_library_is_named_once(copied: Callable[..., Any]) -> None:
    mine = copied()
    index = mine.build.library / "index.jsonl"
    index.write_bytes(b'{"torn\n[1]\n' + index.read_bytes())
    found = load_artefacts(mine.program, mine.build)
    assert found.unreadable == ["library/index.jsonl"]
    assert len(found.pieces) == len(mine.pieces)
    assert "library/index.jsonl" in write_report(mine.program, mine.build, "").read_text(encoding="utf-8")


def test_the_verdict_says_what_the_divergence_means(found: Artefacts) -> None:
    """KL 0.08834 of `final` is a factor of exp(-0.08834) = 0.9155 on the probability."""
    said = verdict(Subject(found, "fast"))
    assert "a probability that is 8.5 % lower on average" in said
    assert "at 85.2 % of the positions" in said
    found.evaluations.clear()
    assert "probability" not in verdict(Subject(found, "fast"))
