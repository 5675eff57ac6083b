"""A case of uptraining with an `eval e` of its child, and the evaluation of it."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from puzzledsl.base.progress import Silent
from puzzledsl.evaluate.run import EvalInputs, run_eval
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import Evaluation
from tests.pieces.train.bld_programs import WHERE
from tests.uptrain.cases import Case


def write_quiz(case: Case, count: int) -> Path:
    """`quiz.jsonl`, of three choices each."""
    path = case.base / "quiz.jsonl"
    choices = [["lone mito", f"x{i} sura kane", "q"] for i in range(count)]
    lines = [{"context": f"kara {i}", "choices": each, "answer": i % 3} for i, each in enumerate(choices)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def with_eval(case: Case, **changes: Any) -> Case:
    settings = {"of": "best", "tasks": ("quiz.jsonl",), "items": 5, "data": "mix", "tokens": 300} | changes
    declaration = nodes.Eval(name="e", where=WHERE, **settings)
    return Case(case.base, case.program.model_copy(update={"evals": {"e": declaration}}))


def evaluated(
    case: Case,
    work: Path,
    progress: Any = None,
    models: dict[str, Path] | None = None,
    full: Collection[str] = ("best",),
    **more: Any,
) -> Evaluation:
    models = {"best": case.child} if models is None else models
    folders = case.parent, case.base, case.base / "tokens", work
    return run_eval(EvalInputs(case.program, "e", models, {*full}, *folders, progress or Silent(), **more))


def figures_of(*given: Any, **more: Any) -> dict[str, Any]:
    """The figures of each model of an evaluation."""
    return {found.model: found.figures for found in evaluated(*given, **more).models}
