"""An evaluation in plain text, and on the card of a child, says what was measured and nothing more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from puzzledsl.ir.nodes import Eval, Where
from puzzledsl.ir.tables import Evaluation, Figure, Kept, ModelComparison, ModelFigures, TextGap
from puzzledsl.pipeline.text.child_text import add_quality, quality_of
from puzzledsl.pipeline.text.evaluation_text import evaluation_text, remarks

GAP = TextGap(near="prose", far="code", near_kl=0.2312, far_kl=1.414)
EVAL = Eval(
    name="quality", of="final", where=Where(file="wide.pzl", line=3, column=1, end_line=3, end_column=9)
)


def kept(verdict: Any, corrected: float | None, low: float | None, high: float | None, figure: str) -> Kept:
    return Kept(
        verdict=verdict,
        plain=0.875,
        chance_corrected=corrected,
        low=low,
        high=high,
        parent=0.48,
        child=0.42,
        chance=0.25,
        items=1000,
        figures=(figure,),
    )


def text(kl: float, perplexity: float) -> dict[str, Figure]:
    return {"kl": Figure(value=kl, stderr=kl / 10), "perplexity": Figure(value=perplexity)}


def evaluation() -> Evaluation:
    """`prose` is the first text, though `code` comes first in the alphabet."""
    models = [
        ModelFigures(
            model=model,
            figures={"params": Figure(value=1.5e6), **prose, "sciq": Figure(value=0.42)},
            texts={"code": code, "prose": prose},
        )
        for model, prose, code in (
            ("parent", text(0, 20), text(0, 5)),
            ("final", text(0.2312, 26), text(1.414, 21.5)),
        )
    ]
    of_tasks = {
        "pooled": kept("above_chance", 0.74, 0.65, 0.83, "sciq_norm"),
        "arc": kept("parent_at_chance", None, None, None, "arc"),
        "piqa": kept("child_at_chance", 0.1, -0.05, 0.24, "piqa_norm"),
        "sciq": kept("above_chance", 0.74, 0.65, 0.83, "sciq_norm"),
    }
    comparison = ModelComparison(model="final", kept=of_tasks, text_gap=GAP)
    found = Evaluation(
        eval="quality", texts=("prose", "code"), models=tuple(models), comparisons=(comparison,)
    )
    return Evaluation.from_json(found.canonical_json().encode())  # as it comes back from the disk


TEXT = """\
quality             parent  final
---------------------------------
kl on prose         0       0.2312 ± 0.023
kl on code          0       1.414 ± 0.14
params              1.5M    1.5M
perplexity on prose  20      26
perplexity on code  5       21.5
sciq                0.42    0.42
"""


def rows(table: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell] for line in table.splitlines()]


def test_each_text_has_its_figures_in_the_order_of_the_declaration() -> None:
    table, _ = evaluation_text(evaluation()).split("\n\n")
    shown = [[cell.strip() for cell in row] for row in rows(table)]
    expected = [[cell.strip() for cell in row] for row in rows(TEXT)]
    assert sorted(shown[2:]) == sorted(expected[2:]) and shown[0] == expected[0]
    labels = [row[0] for row in shown]
    assert labels.index("kl on prose") + 1 == labels.index("kl on code")


def test_what_is_kept_is_said_or_why_it_cannot_be() -> None:
    _, table = evaluation_text(evaluation()).split("\n\n")
    shown = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows(table)}
    assert list(shown) == [
        "accuracy final keeps",
        "-" * len(table.splitlines()[0]),
        "arc",
        "piqa",
        "sciq",
        "pooled",
    ]
    assert shown["sciq"] == ["74.0%", "65.0% … 83.0%", "87.5%", "48.0%", "42.0%", "25.0%"]
    assert shown["piqa"][:2] == ["at chance", "-5.0% … 24.0%"]
    assert shown["arc"] == ["the parent is at chance", "87.5%", "48.0%", "42.0%", "25.0%"]
    assert shown["pooled"] == shown["sciq"]


def context(folder: Path) -> Any:
    """A run context with the attributes that these functions read."""
    path = folder / "quality.json"
    path.write_text(evaluation().canonical_json())
    return cast(
        Any,
        SimpleNamespace(
            file=Path("wide.pzl"),
            build=SimpleNamespace(
                evaluation=lambda name: folder / f"{name}.json", failure=lambda stage, name: folder / "none"
            ),
            program=SimpleNamespace(evals={"quality": EVAL, "other": EVAL.model_copy(update={"of": "best"})}),
            stamps=SimpleNamespace(read=lambda stage, name: name == "quality" or None),
            load=lambda path, kind, stage, name: kind.from_json(path.read_bytes()),
        ),
    )


def with_a_rule() -> Evaluation:
    """`evaluation`, and `shortgpt` that answered no tasks."""
    found = evaluation()
    figures = {"params": Figure(value=1.4e6), **text(0.5, 40)}
    rule = ModelFigures(model="shortgpt", figures=figures, texts={"prose": text(0.5, 40)})
    return found.model_copy(update={"models": (found.models[0], rule, found.models[1])})


def test_a_figure_that_was_not_measured_leaves_a_mark_in_its_column() -> None:
    table = evaluation_text(with_a_rule()).split("\n\n")[0].splitlines()
    column = table[0].index("shortgpt")
    cells = {line.split("  ")[0]: line[column:].split()[0] for line in table[2:]}
    assert cells["sciq"] == cells["kl on code"] == "-"
    assert cells["kl on prose"] == "0.5" and cells["params"] == "1.4M"


def test_texts_that_disagree_are_a_warning_where_the_evaluation_stands(tmp_path: Path) -> None:
    [warning] = remarks(context(tmp_path), ["quality", "other"])
    assert (warning.code, warning.severity) == ("W1601", "warning")
    assert warning.span is not None and (warning.span.file, warning.span.line) == ("wide.pzl", 3)
    assert warning.message == "child `final` is made for `prose`: its KL is 0.231 there and 1.41 on `code`"


def test_a_card_has_the_evaluation_that_names_its_child_in_full(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    section = quality_of(ctx, "final")
    ctx.program.evals = {"quality": EVAL.model_copy(update={"of": "best", "full": ("best", "final")})}
    assert quality_of(ctx, "final") == section
    ctx.program.evals = {"quality": EVAL.model_copy(update={"of": "best", "full": ("best",)})}
    assert quality_of(ctx, "final") == ""


def test_a_card_has_what_was_measured_of_its_child_once(tmp_path: Path) -> None:
    section = quality_of(context(tmp_path), "final")
    assert evaluation_text(evaluation().model_copy(update={"ladder": None})) in section
    assert quality_of(context(tmp_path), "best") == "", "nothing was measured of it"
    card = tmp_path / "README.md"
    add_quality(tmp_path, section)
    assert not card.exists(), "a format without a card gets none"
    card.write_text("# final\n")
    add_quality(tmp_path, section)
    assert card.read_text() == f"# final\n\n{section}"
