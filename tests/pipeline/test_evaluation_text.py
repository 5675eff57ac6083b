"""An evaluation in plain text, and on the card of a child, says what was measured and nothing more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from puzzledsl.ir.nodes import Eval, Where
from puzzledsl.ir.tables import Evaluation, Figure, Kept, ModelComparison, ModelFigures, TextGap
from puzzledsl.pipeline.text.child_text import add_quality, quality_of
from puzzledsl.pipeline.text.evaluation_text import evaluation_text, remarks

GAP = TextGap(near="prose", far="code", near_kl=0.2312, far_kl=1.414)
WHERE = Where(file="wide.pzl", line=3, column=1, end_line=3, end_column=9)
EVAL = Eval(name="quality", of="final", where=WHERE)
AT_CHANCE: dict[str, Any] = {
    "verdict": "parent_at_chance",
    "chance_corrected": None,
    "low": None,
    "high": None,
}


def kept(figure: str, **changes: Any) -> Kept:
    usual: dict[str, Any] = {"verdict": "above_chance", "chance_corrected": 0.74, "low": 0.65, "high": 0.83}
    numbers = {"plain": 0.875, "parent": 0.48, "child": 0.42, "chance": 0.25}
    return Kept(**numbers, **(usual | changes), items=1000, figures=(figure,))


def text(kl: float, perplexity: float) -> dict[str, Figure]:
    return {"kl": Figure(value=kl, stderr=kl / 10), "perplexity": Figure(value=perplexity)}


def evaluation() -> Evaluation:
    """`prose` is the first text, though `code` comes first in the alphabet; `shortgpt` answered no tasks and read no code."""
    texts = {
        "parent": {"prose": text(0, 20), "code": text(0, 5)},
        "shortgpt": {"prose": text(0.5, 40)},
        "final": {"prose": text(0.2312, 26), "code": text(1.414, 21.5)},
    }
    models = tuple(
        ModelFigures(
            model=model,
            figures={"params": Figure(value=1.5e6), **found["prose"]}
            | ({"sciq": Figure(value=0.42)} if "code" in found else {}),
            texts=found,
        )
        for model, found in texts.items()
    )
    of_tasks = {
        "pooled": kept("sciq_norm"),
        "arc": kept("arc", **AT_CHANCE),
        "piqa": kept("piqa_norm", verdict="child_at_chance", chance_corrected=0.1, low=-0.05, high=0.24),
        "sciq": kept("sciq_norm"),
    }
    comparison = ModelComparison(model="final", kept=of_tasks, text_gap=GAP)
    found = Evaluation(eval="quality", texts=("prose", "code"), models=models, comparisons=(comparison,))
    return Evaluation.from_json(found.canonical_json().encode())  # as it comes back from the disk


TEXT = """\
quality              parent  shortgpt    final
kl on prose          0       0.5 ± 0.05  0.2312 ± 0.023
kl on code           0       -           1.414 ± 0.14
params               1.5M    1.5M        1.5M
perplexity on prose  20      40          26
perplexity on code   5       -           21.5
sciq                 0.42    -           0.42"""
KEPT = """\
accuracy final keeps  of the accuracy above chance  95% interval  as a ratio  parent  final  chance
arc  the parent is at chance  87.5%  48.0%  42.0%  25.0%
piqa  at chance  -5.0% … 24.0%  87.5%  48.0%  42.0%  25.0%
sciq  74.0%  65.0% … 83.0%  87.5%  48.0%  42.0%  25.0%
pooled  74.0%  65.0% … 83.0%  87.5%  48.0%  42.0%  25.0%"""


def rows(table: str) -> list[list[str]]:
    lines = (line for line in table.splitlines() if not line.startswith("---"))
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_each_text_has_its_figures_and_what_is_kept_is_said_or_why_it_cannot_be() -> None:
    figures, accuracy = map(rows, evaluation_text(evaluation()).split("\n\n"))
    assert figures[0] == rows(TEXT)[0] and sorted(figures) == sorted(rows(TEXT))
    labels = [row[0] for row in figures]
    assert labels.index("kl on prose") + 1 == labels.index("kl on code")
    assert accuracy[1:] == rows(KEPT)[1:]


def context(folder: Path) -> Any:
    """A run context with the attributes that these functions read."""
    (folder / "quality.json").write_text(evaluation().canonical_json())
    return SimpleNamespace(
        file=Path("wide.pzl"),
        build=SimpleNamespace(
            evaluation=lambda name: folder / f"{name}.json", failure=lambda stage, name: folder / "none"
        ),
        program=SimpleNamespace(evals={"quality": EVAL, "other": EVAL.model_copy(update={"of": "best"})}),
        stamps=SimpleNamespace(read=lambda stage, name: name == "quality" or None),
        load=lambda path, kind, stage, name: kind.from_json(path.read_bytes()),
    )


def test_texts_that_disagree_are_a_warning_where_the_evaluation_stands(tmp_path: Path) -> None:
    [warning] = remarks(context(tmp_path), ["quality", "other"])
    assert (warning.code, warning.severity) == ("W1601", "warning")
    assert warning.span is not None and (warning.span.file, warning.span.line) == ("wide.pzl", 3)
    assert warning.message == "child `final` is made for `prose`: its KL is 0.231 there and 1.41 on `code`"


def test_a_card_has_what_was_measured_of_its_child_once(tmp_path: Path) -> None:
    """By the evaluation that is of it, or names it in full."""
    ctx = context(tmp_path)
    section = quality_of(ctx, "final")
    parent, _, child = evaluation().models
    assert evaluation_text(evaluation().model_copy(update={"models": (parent, child)})) in section
    assert quality_of(ctx, "best") == "", "nothing was measured of it"
    for full, expected in ((("best", "final"), section), (("best",), "")):
        ctx.program.evals = {"quality": EVAL.model_copy(update={"of": "best", "full": full})}
        assert quality_of(ctx, "final") == expected
    card = tmp_path / "README.md"
    add_quality(tmp_path, section)
    assert not card.exists(), "a format without a card gets none"
    card.write_text("# final\n")
    add_quality(tmp_path, section)
    assert card.read_text() == f"# final\n\n{section}"
