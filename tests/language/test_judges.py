"""Figures of a judge become requirements of a search; in other places, or out of range, they are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from tests.language.rules import WEIGHTS, codes, outcome, program

JUDGE = 'judge taste of q = tasks("quiz.jsonl") {{ data = unread{more} }}\ndata unread = text("unread.txt")\n'


def judged(requirement: str, goal: str = "maximize params", more: str = "", body: str = "") -> str:
    return JUDGE.format(more=more) + WEIGHTS + f"search s of v {{ {goal}, {requirement}{body} }}\n"


@pytest.mark.states("judge.declares", "judge.bound", "judge.first", "judge.measures", "judge.figures")
@pytest.mark.parametrize(
    ("text", "figure", "bound", "first"),
    [
        ("taste.kl <= 0.05", "kl", "1/20", "1/20"),
        ("0.05 >= taste.kl", "kl", "1/20", "1/20"),
        ("taste.kept >= 95%", "kept", "19/20", "1/20"),
        ("taste.agreement > 0.9", "agreement", "9/10", "1/10"),
        ("taste.perplexity <= 1.05x", "perplexity", "21/20", "1/20"),
        ("taste.kept >= 100%", "kept", "1", "1/1000"),
    ],
)
def test_a_bound_on_a_judged_figure_begins_as_a_bound_on_a_score(
    tmp_path: Path, text: str, figure: str, bound: str, first: str
) -> None:
    """Of the goal's score if it measures KL divergence, or the first that does."""
    goals = {"maximize params": "loss", "minimize chat.latency": "loss", "minimize second": "second"}
    for goal, score in goals.items():
        written = (
            judged(f'require {text} because "why"', goal)
            + "score second of pieces = replace_one(kl_divergence)"
        )
        search = program(tmp_path, written).searches["s"]
        (requirement,) = search.requirements
        assert isinstance(requirement, nodes.LinearRequirement) and requirement.judged is not None
        assert (requirement.judged.judge, requirement.judged.figure) == ("taste", figure)
        assert (requirement.judged.bound, requirement.limit) == (Fraction(bound), Fraction(first))
        assert (requirement.op, requirement.because) == ("<=", "why")
        assert requirement.left == nodes.Linear(
            terms=(nodes.WeightedTerm(coefficient=Fraction(1), term=nodes.ScoreTerm(score=score)),)
        )
        assert search.refine is not None and search.refine.children == nodes.JUDGED_CHILDREN


@pytest.mark.states("judge.measures")
def test_a_judged_search_measures_as_many_children_as_it_says(tmp_path: Path) -> None:
    text = judged("require taste.kl <= 0.05", body=", refine = measured(5)")
    refine = program(tmp_path, text).searches["s"].refine
    assert refine is not None and refine.children == 5
    more = judged("require taste.kl <= 0.05") + "search more of s { minimize loss }\n"
    assert len(program(tmp_path, more).searches["more"].requirements) == 1


@pytest.mark.states("judge.declares")
def test_settings_of_a_judge(tmp_path: Path) -> None:
    text = judged("require taste.kl <= 1", more=", tokens = 2Ki, items = 9, sure = 95%, dtype = bf16")
    judge = program(tmp_path, text).judges["taste"]
    assert (judge.parent, judge.tasks, judge.data) == ("q", ("quiz.jsonl",), "unread")
    assert (judge.tokens, judge.items, judge.sure, judge.dtype) == (2048, 9, Fraction(19, 20), "bf16")


BOUND = judged("require taste.kl <= 0.05")
MUTE = BOUND.replace(' = tasks("quiz.jsonl")', "")
ALONE = "E0426 `require taste.{}`"
"""What a judged figure is told that stands elsewhere than in a bound of its own."""


@pytest.mark.states("judge.bound", "judge.measures", "judge.apart")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (judged("require taste.kl + loss <= 0.05"), ALONE.format("kl <= 0.05")),
        (judged("require 2 * taste.kl <= 0.05"), ALONE.format("kl <= 0.05")),
        (judged("require taste.kl >= 0.05"), ALONE.format("kl <= 0.05")),
        (judged("require taste.kl <= 0"), ALONE.format("kl <= 0.05")),
        (judged("require taste.kl <= 1.1x"), ALONE.format("kl <= 0.05")),
        (judged("require taste.perplexity <= 20"), ALONE.format("perplexity <= 1.05x")),
        (judged("require taste.perplexity <= 1x"), ALONE.format("perplexity <= 1.05x")),
        (judged("require taste.kept <= 95%"), ALONE.format("kept >= 95%")),
        (judged("require taste.kept >= 101%"), ALONE.format("kept >= 95%")),
        (judged("require taste.kept >= 0%"), ALONE.format("kept >= 95%")),
        (judged("require params <= 1x", goal="minimize taste.kl"), ALONE.format("kl <= 0.05")),
        (judged("prefer -taste.kl"), ALONE.format("kl <= 0.05")),
        (judged("require params <= 1x") + "frontier f of s = sweep(taste.kl, 0.1..0.2)", "E0426"),
        (judged("require taste.kl == 0.05"), "E0314"),
        (judged("require taste.klx <= 0.05"), "E0206"),
        (judged("require taste.kl <= 0.05 or params <= 1x"), "E0310"),
        (judged("require taste.kl <= 0.05", body=", refine = none"), "E0429 `refine = measured(12)`"),
        (judged("require taste.kl <= 0.05", body=", refine = measured(3, healed: 0)"), "E0215"),
        (judged("require taste.kl <= 0.05, solutions 2"), "E0422"),
        (MUTE, ""),
        (MUTE.replace("kl <= 0.05", "kept >= 0.9"), 'E0427 `judge taste of q = tasks("questions.jsonl") { … }`'),
        (BOUND.replace("kl_divergence", "lm_loss"), "E0428 `score kl of BLD = replace_one(kl_divergence)`"),
        (BOUND.replace("judge taste of q", "judge taste of p"), "E0430"),
        (BOUND.replace("data = unread", "data = words"), "E0419"),
        (BOUND.replace("data = unread", ""), "E0209"),
        (judged("require tasks <= 0.1"), "E0434 `require taste.kept >= 95%`"),
        (judged("require quality >= 95%"), "E0201"),
    ],
)  # fmt: skip
def test_what_a_judged_figure_is_not_for(tmp_path: Path, text: str, expected: str) -> None:
    code, _, help = expected.partition(" ")
    assert codes(tmp_path, text).split()[:1] == code.split()
    assert help in "".join(d.help for d in outcome(tmp_path, text).diagnostics)
