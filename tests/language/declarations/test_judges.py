"""Figures of a judge become requirements of a search; in other places, or out of range, they are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.checker.check import Checked, check
from puzzledsl.ir import nodes

HEAD = """\
use "std/parents.pzl" (llama3_1_8b, smollm2_135m)
parent q = hf("q", shape: llama3_1_8b)
parent other = hf("other", shape: smollm2_135m)
space v of q { ffn = parent | noop }
space w of other { ffn = parent | noop }
data corpus = text("corpus.txt")
data unread = text("unread.txt")
bld pieces of v { tokens = 0, data = corpus }
bld others of w { tokens = 0, data = corpus }
score drops of pieces = replace_one(accuracy("q.jsonl"))
score elsewhere of others = replace_one(kl_divergence)
judge taste of q = tasks("questions.jsonl") { data = unread }
judge mute of q { data = unread }
judge strange of other { data = unread }
"""
SCORES = (
    HEAD
    + "score real of pieces = replace_one(kl_divergence)\nscore second of pieces = replace_one(kl_divergence)\n"
)


def checked(folder: Path, body: str, head: str = SCORES) -> Checked:
    """The checker's answer to a program with one search of this body."""
    (folder / "judged.pzl").write_text(f"{head}search s of v {{ {body} }}\n", "utf-8")
    return check(folder / "judged.pzl")


def searched(folder: Path, body: str) -> nodes.Search:
    """The search that a correct body means."""
    found = checked(folder, body).program
    assert found is not None
    return found.searches["s"]


@pytest.mark.parametrize(
    ("written", "figure", "bound"),
    [
        ("kl <= 0.05", "kl", Fraction(1, 20)),
        ("kl < 0.05", "kl", Fraction(1, 20)),
        ("perplexity <= 1.05x", "perplexity", Fraction(21, 20)),
        ("kept >= 95%", "kept", Fraction(19, 20)),
        ("kept > 100%", "kept", Fraction(1)),
        ("agreement >= 90%", "agreement", Fraction(9, 10)),
    ],
)
def test_a_bound_is_kept_with_its_figure(tmp_path: Path, written: str, figure: str, bound: Fraction) -> None:
    found = searched(tmp_path, f'minimize params, require taste.{written} because "why"')
    (requirement,) = found.requirements
    assert isinstance(requirement, nodes.LinearRequirement) and requirement.judged is not None
    assert (requirement.judged.judge, requirement.judged.figure, requirement.judged.bound) == (
        "taste",
        figure,
        bound,
    )
    assert (requirement.op, requirement.because) == ("<=", "why")
    assert requirement.bound == nodes.JUDGED[figure].first(bound) > 0
    (term,) = requirement.left.terms
    assert (term.coefficient, term.term) == (Fraction(1), nodes.ScoreTerm(score="real"))
    assert found.refine is not None and found.refine.children == nodes.JUDGED_CHILDREN


def test_the_goals_score_predicts_and_refine_may_be_said(tmp_path: Path) -> None:
    found = searched(
        tmp_path,
        "minimize second, require taste.kl <= 0.05, require chat_free, refine = measured(3)".replace(
            ", require chat_free", ""
        ),
    )
    (requirement,) = found.requirements
    assert isinstance(requirement, nodes.LinearRequirement)
    assert [each.term for each in requirement.left.terms] == [nodes.ScoreTerm(score="second")]
    assert found.refine is not None and found.refine.children == 3


ALONE = "error[E0426]: `taste.{}` is measured of whole children, so it has a bound of its own | write `require taste.{}`"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("minimize params, require taste.kl + real <= 0.05", ALONE.format("kl", "kl <= 0.05")),
        ("minimize params, require 2 * taste.kl <= 0.05", ALONE.format("kl", "kl <= 0.05")),
        ("minimize params, require taste.kl >= 0.05", ALONE.format("kl", "kl <= 0.05")),
        ("minimize params, require taste.kl <= 0", ALONE.format("kl", "kl <= 0.05")),
        ("minimize params, require taste.perplexity <= 1x", ALONE.format("perplexity", "perplexity <= 1.05x")),
        ("minimize params, require taste.perplexity <= 30", ALONE.format("perplexity", "perplexity <= 1.05x")),
        ("minimize params, require taste.kept <= 95%", ALONE.format("kept", "kept >= 95%")),
        ("minimize params, require taste.kept >= 101%", ALONE.format("kept", "kept >= 95%")),
        ("minimize params, require taste.kept >= 0%", ALONE.format("kept", "kept >= 95%")),
        ("minimize taste.kl", ALONE.format("kl", "kl <= 0.05")),
        (
            "minimize params, require mute.kept >= 95%",
            'error[E0427]: judge `mute` asks no questions | write `judge mute of q = tasks("questions.jsonl") { … }`',
        ),
        (
            "minimize params, require taste.kl <= 0.05, refine = none",
            "error[E0429]: `taste.kl` is measured of children, and `refine = none` measures none | "
            "write `refine = measured(12)`, or leave `refine` out",
        ),
        (
            "minimize params, require strange.kl <= 0.05",
            "error[E0430]: `strange` judges children of `other`, and these are of `q`",
        ),
        (
            "minimize params, require drops <= 0.1",
            "error[E0434]: drops in accuracy do not add up: a bound on the sum of `drops` says nothing of a child | "
            "declare a `judge`, and bound what it measures of whole children: `require taste.kept >= 95%`",
        ),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, body: str, said: str) -> None:
    assert refusals(tmp_path, body, SCORES) == [said]


def test_only_a_kl_score_of_the_space_predicts(tmp_path: Path) -> None:
    said = "error[E0428]: no score of `v` predicts `taste.kl` | declare one: `score kl of BLD = replace_one(kl_divergence)`, "
    assert refusals(tmp_path, "minimize params, require taste.kl <= 0.05", HEAD) == [
        said + "of a `bld` of `v`"
    ]


def refusals(folder: Path, body: str, head: str) -> list[str]:
    """Return the errors as `error[CODE]: sentence | help`."""
    return [
        " | ".join(filter(None, (f"error[{each.code}]: {each.message}", each.help)))
        for each in checked(folder, body, head).diagnostics
        if each.code.startswith("E")
    ]
