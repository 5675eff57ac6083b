"""Figures of a judge become requirements of a search; in other places, or out of range, they are refused."""

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from tests.language.rules import WEIGHTS, program

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
    """The bound is put on the goal's score if that measures KL divergence, on the first score that does if not."""
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
