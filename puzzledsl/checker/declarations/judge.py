"""Lowering of `judge taste of p = tasks(…) { data = … }`, and of requirements on its figures: `require taste.kl <= 0.05`."""

from fractions import Fraction
from typing import NoReturn

from puzzledsl.base.diagnostics import Args, Mistake, Span
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import Declared
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.settings import lower
from puzzledsl.checker.expressions.values import SpaceInfo
from puzzledsl.ir import nodes

JudgedAlone = Mistake(
    "E0426",
    "`{text}` is measured of whole children, so it has a bound of its own",
    "write `require {text} {op} {example}`",
)
NoQuestions = Mistake(
    "E0427",
    "judge `{judge}` asks no questions",
    'write `judge {judge} of {parent} = tasks("questions.jsonl") {{ … }}`',
)
NothingPredicts = Mistake(
    "E0428",
    "no score of `{space}` predicts `{text}`",
    "declare one: `score kl of BLD = replace_one(kl_divergence)`, of a `bld` of `{space}`",
)
JudgedNotMeasured = Mistake(
    "E0429",
    "`{text}` is measured of children, and `refine = none` measures none",
    "write `refine = measured({children})`, or leave `refine` out",
)
OtherParentJudged = Mistake("E0430", "`{judge}` judges children of `{got}`, and these are of `{wanted}`")
SumOfDrops = Mistake(
    "E0434",
    "drops in accuracy do not add up: a bound on the sum of `{score}` says nothing of a child",
    "declare a `judge`, and bound what it measures of whole children: `require taste.kept >= 95%`",
)


def lower_judge(judge: Declared) -> nodes.Judge:
    """Lower `judge taste of smollm = tasks("a.jsonl") { data = heldout, items = 200 }`."""
    tasks = judge.tasks()
    settings, _ = judge.body()
    return settings.sound(lower(settings, nodes.Judge, **judge.head(), tasks=tasks))


def judged_requirement(ctx: Context, comparison: values.Comparison, because: str) -> nodes.LinearRequirement:
    """Return a bound on a judged figure as a requirement whose sum `predicted` fills in. Refuse a sum, or one out of range."""
    key = is_judged(comparison.left)
    assert key is not None, "the caller found one"
    alone = comparison.left.terms == {key: 1}
    judge, figure = ctx.need(ctx.taken[str(key[1])], nodes.Judge), nodes.JUDGED[str(key[2])]
    right_way = comparison.op in (("<=", "<") if figure.better == "less" else (">=", ">"))
    bound = comparison.parent_ratio if figure.of_parent else comparison.bound
    within = bound is not None and (0 < bound <= 1 if figure.better == "more" else bound > figure.of_parent)
    if not alone or not right_way or bound is None or not within:  # a child can meet it, or miss it
        refuse_judged(ctx, key, comparison.span)
    if figure.name == "kept" and not judge.tasks:
        said: Args = {"judge": judge.name, "parent": judge.parent}
        raise ctx.refuse(NoQuestions(comparison.span, **said))
    return nodes.LinearRequirement(
        left=nodes.Linear(terms=()),
        op="<=",
        bound=figure.first(bound),
        because=because,
        where=ctx.where(comparison.span),
        bound_where=ctx.where(comparison.bound_span),
        judged=nodes.Judged(judge=judge.name, figure=figure.name, bound=bound),
    )


def is_judged(value: values.Symbolic) -> values.TermKey | None:
    """Return the key of the first judged figure in a sum; None without one."""
    return next((key for key in value.terms if key[0] == "judged"), None)


def refuse_judged(ctx: Context, key: values.TermKey, span: Span) -> NoReturn:
    """Refuse a judged figure in another place than a bound of its own."""
    judge, figure = str(key[1]), nodes.JUDGED[str(key[2])]
    op = "<=" if figure.better == "less" else ">="
    said: Args = {"text": f"{judge}.{figure.name}", "op": op, "example": figure.example}
    raise ctx.refuse(JudgedAlone(span, **said))


def report_sums_of_drops(ctx: Context, value: values.Symbolic, span: Span) -> None:
    """Report each score of `accuracy` in a bounded or swept value: drops in accuracy do not add up to the child's drop."""
    for key in value.terms:
        score = ctx.lower(ctx.taken[str(key[1])], nodes.Score) if key[0] == "score" else None
        if score is not None and getattr(score.method, "metric", "") == "accuracy":
            ctx.report(SumOfDrops(span, score=score.name))


def predicted(
    ctx: Context, search: Declared, info: SpaceInfo, node: nodes.Search, measures: bool
) -> nodes.Search | None:
    """Return `node` with a `refine` and its judged requirements as bounds on a KL score, the goal's or another of the space.

    A node without judged requirements stays as it is; else None, reported, without such a score, or if `measures` is False.
    """
    judged = [r for r in node.requirements if isinstance(r, nodes.LinearRequirement) and r.judged]
    if not judged:
        return node
    first = judged[0]
    assert first.judged is not None
    span, text = ctx.span_of(first.where), f"{first.judged.judge}.{first.judged.figure}"
    for requirement in judged:
        assert requirement.judged is not None
        judge = ctx.need(ctx.taken[requirement.judged.judge], nodes.Judge)
        if judge.parent != info.parent_id:
            said: Args = {"judge": judge.name, "got": judge.parent, "wanted": info.parent_id}
            ctx.report(OtherParentJudged(ctx.span_of(requirement.where), **said))
    score = _predicting(ctx, search, info, node)
    if score is None:
        ctx.report(NothingPredicts(span, text=text, space=info.name))
        return None
    if not measures:
        ctx.report(JudgedNotMeasured(span, text=text, children=nodes.JUDGED_CHILDREN))
        return None
    term = nodes.WeightedTerm(coefficient=Fraction(1), term=nodes.ScoreTerm(score=score))
    left = nodes.Linear(terms=(term,))
    requirements = tuple(r.model_copy(update={"left": left}) if r in judged else r for r in node.requirements)
    refine = node.refine or nodes.Refine(children=nodes.JUDGED_CHILDREN, where=first.where)
    return node.model_copy(update={"requirements": requirements, "refine": refine})


def _predicting(ctx: Context, search: Declared, info: SpaceInfo, node: nodes.Search) -> str | None:
    named = [w.term.score for w in node.objective.terms if isinstance(w.term, nodes.ScoreTerm)]
    symbols = [ctx.taken[name] for name in named if name in ctx.taken]
    for symbol in (*symbols, *search.symbol.file.symbols("score")):
        score = ctx.lower(symbol, nodes.Score)
        if score is None or score.space != info.name or not isinstance(score.method, nodes.ReplaceOne):
            continue
        if score.method.metric == "kl_divergence":
            return score.name
    return None
