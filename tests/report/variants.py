"""Builds that differ from the finished one in one thing each: `VARIANTS` by name, for the goldens of their pages."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.ir import nodes, tables
from puzzledsl.report.subject import Artefacts, load_artefacts
from tests.report.conftest import LAYERS, PARENT, Built, but, child_of, solved

Variant = Callable[[Built], Artefacts]
VARIANTS: dict[str, Variant] = {}


def variant(make: Variant) -> Variant:
    VARIANTS[make.__name__] = make
    return make


def each(name: str, make: Callable[..., Artefacts], **cases: Any) -> None:
    """A variant for each case of one kind."""
    VARIANTS.update({f"{name}_{case}": partial(make, case=value) for case, value in cases.items()})


@variant
def finished(built: Built) -> Artefacts:
    return load_artefacts(built.program, built.build)


def changed(found: Artefacts, **update: Any) -> Artefacts:
    """Changes to the main search's best child."""
    fast = found.results["fast"]
    best = but(fast.solutions[0], **update)
    found.results["fast"] = but(fast, solutions=(best, *fast.solutions[1:]))
    return found


def declared(found: Artefacts, kind: str, name: str, **update: Any) -> Artefacts:
    declarations = getattr(found.program, kind)
    declarations = {**declarations, name: but(declarations[name], **update)}
    found.program = found.program.model_copy(update={kind: declarations})
    return found


def measured(
    found: Artefacts,
    figures: Callable[[str, Mapping[str, tables.Figure]], dict[str, tables.Figure]],
    **more: Any,
) -> Artefacts:
    """Changes to the figures of every model, and to the evaluation."""
    evaluation = found.evaluations["all"]
    models = tuple(but(m, figures=figures(m.model, m.figures)) for m in evaluation.models)
    found.evaluations["all"] = evaluation.model_copy(update={"models": models, **more})
    return found


# ---------------------------------------------------------------- what was measured


@variant
def latencies_alone(built: Built) -> Artefacts:
    seconds = {"parent": 4.0, "fast": 2.0, "final": 2.0}

    def figures(model: str, was: Mapping[str, tables.Figure]) -> dict[str, tables.Figure]:
        kept = {k: f for k, f in was.items() if not k.startswith("chat.")}
        return kept | ({"chat.latency_s": tables.Figure(value=seconds[model])} if model in seconds else {})

    return measured(finished(built), figures)


@variant
def a_task_with_a_normalised_twin(built: Built) -> Artefacts:
    accuracies = {"parent": (0.4, 0.8), "fast": (0.3, 0.1), "final": (0.3, 0.1)}

    def figures(model: str, was: Mapping[str, tables.Figure]) -> dict[str, tables.Figure]:
        names = ("hellaswag", "hellaswag_norm")
        return {
            **was,
            **{n: tables.Figure(value=v) for n, v in zip(names, accuracies.get(model, ()), strict=False)},
        }

    return measured(finished(built), figures, comparisons=())


@variant
def figures_that_are_no_numbers(built: Built) -> Artefacts:
    endless = {"chat.latency_s": tables.Figure(value=float("inf"))}
    return measured(finished(built), lambda _, was: {**was, **(endless if "chat.latency_s" in was else {})})


def kept(built: Built, case: dict[str, Any]) -> Artefacts:
    found = finished(built)
    evaluation = found.evaluations["all"]
    final = evaluation.comparisons[1]
    pooled = but(final.kept["pooled"], **case)
    comparison = but(final, kept={**final.kept, "hellaswag": pooled, "pooled": pooled})
    others = [c for c in evaluation.comparisons if c is not final]
    found.evaluations["all"] = but(evaluation, comparisons=(*others, comparison))
    return found


each(
    "kept",
    kept,
    child_at_chance={"verdict": "child_at_chance", "chance_corrected": 0.11, "low": -0.08, "high": 0.31},
    parent_at_chance={"verdict": "parent_at_chance", "chance_corrected": None, "low": None, "high": None},
)


@variant
def texts_disagree(built: Built) -> Artefacts:
    found = finished(built)
    evaluation, far = found.evaluations["all"], tables.Figure(value=1.41)
    models = []
    for model in evaluation.models:
        kl = model.figures.get("kl", tables.Figure(value=0))
        texts = {"prose": {"kl": kl}, "code": {"kl": far if model.model == "final" else kl}}
        models.append(but(model, texts=texts))
    gap = tables.TextGap(near="prose", far="code", near_kl=0.08834, far_kl=1.41)
    told = [but(c, text_gap=gap if c.model == "final" else None) for c in evaluation.comparisons]
    update = {"models": tuple(models), "comparisons": tuple(told), "texts": ("prose", "code")}
    found.evaluations["all"] = but(evaluation, **update)
    return found


@variant
def children_in_full(built: Built) -> Artefacts:
    """These alone have an accuracy, one of them of another search."""
    names = ("final", "greedy")
    found = declared(finished(built), "evals", "all", full=names)
    was = found.evaluations["all"].comparisons
    comparisons = tuple(but(c, kept=was[0].kept if c.model in names else {}) for c in was)

    def figures(model: str, was: Mapping[str, tables.Figure]) -> dict[str, tables.Figure]:
        others = {k: f for k, f in was.items() if k != "hellaswag" or model == "parent"}
        return others | ({"hellaswag": tables.Figure(value=0.4)} if model in names else {})

    return measured(found, figures, comparisons=comparisons)


def required_speed(built: Built, case: tuple[float, float]) -> Artefacts:
    """A child that was predicted at 1.52x, measured at so many times with an error."""
    found = finished(built)
    rate = 1.52 * found.results["fast"].parent_metrics["chat.throughput"]
    changed(found, metrics=found.results["fast"].solutions[0].metrics | {"chat.throughput": rate})

    def figures(model: str, was: Mapping[str, tables.Figure]) -> dict[str, tables.Figure]:
        times = 1.0 if model == "parent" else case[0]
        return {**was, "chat.throughput": tables.Figure(value=1000.0 * times, stderr=case[1])}

    return measured(found, figures)


each(
    "measured_at",
    required_speed,
    over=(1.6, 0.0),
    under=(1.49, 0.0),
    within_error=(1.49, 20.0),
    far=(1.1, 20.0),
)


def answers(built: Built, case: tables.Repetition) -> Artefacts:
    found = finished(built)
    said = {
        "parent": tables.Answer(text=" <b>is</b> a place.\n\nIt is wide.", tokens=9, repetition=0.05),
        "fast": tables.Answer(text=" the the the the the", tokens=64, repetition=0.93),
        "final": tables.Answer(text="", tokens=0, repetition=0.0),
        "greedy": tables.Answer(text="never shown", tokens=2, repetition=0.0),
    }
    prompt = tables.AnsweredPrompt(
        prompt="The sea & more", source="heldout", continuation=" is blue.", answers=said
    )
    given = tables.AnsweredPrompt(prompt="Why?", answers=said)
    was = found.evaluations["all"]
    told = [but(c, repetition=case if c.model == "final" else None) for c in was.comparisons]
    update = {"answers": (prompt, given), "comparisons": tuple(told)}
    found.evaluations["all"] = but(was, **update)
    problems = (tables.Problem(code="E0001", message="no <room>"),)
    found.failures.append(tables.Failure(stage="export", name="ship", problems=problems))
    return found


each(
    "answers",
    answers,
    fine=tables.Repetition(parent=0.05, child=0.1, remarkable=False),
    repeated=tables.Repetition(parent=0.05, child=0.5, remarkable=True),
)


@variant
def texts(built: Built) -> Artefacts:
    def counts(name: str, **more: object) -> tables.TextCounts:
        told = {"name": name, "source": "{}", "documents": 12, "tokens": 3456, "learned_tokens": 3456}
        return tables.TextCounts.model_validate(told | more)

    less = {
        "learned_tokens": 99,
        "duplicates": 1200,
        "copies_dropped": True,
        "unanswered": 2,
        "stopped": True,
    }
    found = finished(built)
    found.texts["books"] = (counts("books", duplicates=3),)
    found.texts["mixed"] = (counts("books"), counts('jsonl("chat.jsonl")', **less))
    return found


# ---------------------------------------------------------------- what the search says


def linear(*terms: tuple[int, nodes.Term], constant: int = 0) -> nodes.Linear:
    weighted = tuple(nodes.WeightedTerm(coefficient=Fraction(c), term=t) for c, t in terms)
    return nodes.Linear(terms=weighted, constant=Fraction(constant))


VALUES = {"parent": 5, "gqa1": 3, "linear": 2, "noop": 0}
CELLS = tuple((Fraction(value),) for value in VALUES.values())
TABLE = nodes.TableTerm(attention=(*VALUES,), ffn=(), values=CELLS, layers=(1, 2, 3))
WIDTHS = nodes.FactTerm(sub_block="ffn", attribute="width", layers=(1, 2, 3))


@variant
def bounds(built: Built) -> Artefacts:
    """Bounds that are just reached, one that nothing says, and comparisons inside formulas; of figures without metrics."""
    found = finished(built)
    was = found.program.searches["fast"].requirements
    heads = next(r for r in reversed(was) if isinstance(r, nodes.LinearRequirement))
    layers = found.results["fast"].solutions[0].layers
    have = sum({"parent": 3, "gqa1": 1}.get(x.attention, 0) for x in layers)
    stated: list[Any] = [but(heads, op=op, bound=Fraction(have)) for op in ("<=", ">=", "==", "<", ">")]
    lefts = (
        linear((1, nodes.ScoreTerm(score="other"))),
        linear((2, WIDTHS), constant=1),
        linear((1, TABLE)),
        linear((1, nodes.ParamsTerm())),
    )
    stated += [but(heads, left=left) for left in lefts]
    facts = linear((1, nodes.FactTerm(sub_block="attention", attribute="kv_heads", layers=(0, 1))))
    for op in (">=", "<"):
        compared = nodes.Compare.model_validate({"left": facts, "op": op, "bound": 0})
        formula = nodes.Or(operands=(compared, nodes.Or(operands=())))
        stated.append(nodes.LogicRequirement(formula=formula, where=was[0].where))
    apart = (but(r, where=but(r.where, line=50 + i)) for i, r in enumerate(stated))
    return changed(declared(found, "searches", "fast", requirements=tuple(apart)), metrics={})


@variant
def a_requirement_missed(built: Built) -> Artefacts:
    found = finished(built)
    found.results["fast"] = but(found.results["drop"], search="fast")
    found.evaluations.clear()
    return found


@variant
def nothing_measured(built: Built) -> Artefacts:
    return Artefacts(built.program, results=finished(built).results, costs=finished(built).costs)


def parameters(built: Built, case: float) -> Artefacts:
    """No speed at all, and so many times the parent's parameters."""
    found = Artefacts(built.program, results=finished(built).results)
    fast = but(found.results["fast"], parent_metrics={"params": 1e9})
    found.results = {"fast": fast}
    return changed(found, metrics={"params": case * 1e9})


each("parameters", parameters, as_many=1.0001, fewer=0.9, more=1.2)


def another_space(
    built: Built, case: Callable[[tuple[tables.LayerAssignment, ...]], tuple[tables.LayerAssignment, ...]]
) -> Artefacts:
    found = finished(built)
    return changed(found, layers=case(found.results["fast"].solutions[0].layers))


each(
    "another_space",
    another_space,
    deeper=lambda layers: layers[:-1],
    wider=lambda layers: (*layers[:-1], tables.LayerAssignment(attention="parent", ffn="mlp5")),
)


@variant
def another_table_of_costs(built: Built) -> Artefacts:
    found = changed(finished(built), metrics={})
    [costs] = found.costs["wide"].scenarios["chat"]
    shorter = but(costs, attention=({"parent": costs.attention[0]["parent"]},) * LAYERS)
    found.costs["wide"] = but(found.costs["wide"], scenarios={"chat": (shorter,)})
    return found


@variant
def pairs_scored_together(built: Built) -> Artefacts:
    found = finished(built)
    layers, table = found.results["fast"].solutions[0].layers, found.costs["wide"]
    names = [f"{x.attention}/{x.ffn}" for x in layers]
    [costs] = table.scenarios["chat"]
    sums = tuple(
        {name: but(a[x.attention], decode_ns=10**6 * (i + 1), prefill_ns=0)}
        for i, (a, x, name) in enumerate(zip(costs.attention, layers, names, strict=True))
    )
    together = but(costs, pairs=sums)
    found.costs["wide"] = but(table, scenarios={**table.scenarios, "chat": (together,)})
    scores = tuple({name: 0.5 + i} for i, name in enumerate(names))
    found.scores["kl"] = tables.ScoreTable(
        score="kl", metric="kl_divergence", samples=1, unit="block", pairs=scores
    )
    return found


@variant
def runs_of_dropped_layers(built: Built) -> Artefacts:
    found, dropped = finished(built), tables.LayerAssignment(attention="noop", ffn="noop")
    runs = (tables.RunScore(first=3, length=2, value=0.5), tables.RunScore(first=7, length=2, value=9.0))
    found.scores["kl"] = but(found.scores["kl"], runs=runs)
    return changed(found, layers=tuple(dropped if i in (3, 4, 8) else PARENT for i in range(LAYERS)))


@variant
def windows(built: Built) -> Artefacts:
    found = finished(built)
    two = tuple(GqaAttention(kv_heads=3, window=w, sinks=4) for w in (192, 64))
    layers = built.program.spaces["wide"].layers
    wider = tuple(but(c, attention=(*c.attention, *two)) for c in layers)
    declared(found, "spaces", "wide", layers=wider)
    was = found.results["fast"].solutions[0].layers
    child = [but(x, attention=two[i % 2].name) for i, x in enumerate(was)]
    return changed(found, layers=tuple(child))


# ---------------------------------------------------------------- children that were measured


def refinement(
    built: Built, layers: Sequence[Any], losses: Mapping[str, float], optimum: tables.Solution
) -> tables.Refinement:
    """Measured children by origin, the optimum's first."""
    children = []
    for child, (origin, loss) in zip(layers, losses.items(), strict=False):
        told = {"layers": child, "origin": origin, "predicted": loss * 0.9, "predicted_stderr": 0.03}
        children.append(tables.MeasuredChild.model_validate({**told, "measured": loss}))
    best = min(children, key=lambda child: child.measured)
    return tables.Refinement(
        search="fast",
        score="kl",
        metric="kl_divergence",
        healed=4096,
        samples=2048,
        children=tuple(children),
        solution=solved(built.program, built.costs, built.scores, best.layers),
        model_optimum=layers[2],
        model_prediction=0.4321,
        proven=optimum.objective,
    )


LOSSES = {"optimum": 0.71, "model": 0.52, "drawn": 0.58}


def refined(built: Built, case: Mapping[str, float]) -> Artefacts:
    """The main search, refined; its children with losses of their own."""
    losses, optimum = LOSSES | case, built.results["fast"].solutions[0]
    how = nodes.Refine(children=len(losses), where=built.program.searches["fast"].where)
    found = declared(finished(built), "searches", "fast", refine=how)
    layers = [optimum.layers, *(child_of(0.44 + 0.02 * i) for i in range(len(losses) - 1))]
    found.refinements["fast"] = refinement(built, layers, losses, optimum)
    return found


each("refined", refined, plain={}, far={"model": 6.0}, drawn={"drawn": 0.41}, optimum={"optimum": 0.3})


@variant
def refined_unproven(built: Built) -> Artefacts:
    found = refined(built, {})
    found.results["fast"] = but(found.results["fast"], status="feasible")
    return found


@variant
def refined_in_another_space(built: Built) -> Artefacts:
    found = refined(built, {})
    was = found.refinements["fast"]
    few = but(was.solution, layers=was.solution.layers[:3])
    child = but(was.children[0], layers=few.layers)
    found.refinements["fast"] = but(was, solution=few, children=(child,))
    return found


@variant
def a_frontier_of_losses_close_together(built: Built) -> Artefacts:
    def raised(result: tables.SearchResult) -> tables.SearchResult:
        solutions = [but(s, objective=s.objective + 1) for s in result.solutions]
        return but(result, solutions=tuple(solutions))

    found = finished(built)
    found.results = {"fast": raised(found.results["fast"])}
    curve = found.frontiers["curve"]
    points = tuple(but(p, result=raised(p.result)) for p in curve.points)
    found.frontiers["curve"] = but(curve, points=points)
    return found


@variant
def a_frontier_of_one_point(built: Built) -> Artefacts:
    found = finished(built)
    curve = found.frontiers["curve"]
    found.frontiers["curve"] = but(curve, points=(curve.points[0], curve.points[-1]))
    return found
