"""An `eval` declaration -> an Evaluation: the parent first, then each child, in one run and on the same data.

Guaranteed before: the program is checked; every directory of `models` is a realised child of the parent.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.progress import Progress
from puzzledsl.evaluate.bench import Bench
from puzzledsl.evaluate.compare import compare
from puzzledsl.evaluate.plan import plan_of
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import Evaluation


@dataclass(frozen=True)
class EvalInputs:
    """Inputs of one evaluation.

    `models` maps names to checkpoint directories; those named in `full` also get tasks and times. Relative data paths start
    at `base`; `cache` holds tokenised text. Models that are finished are kept in `work`, which is removed at the end.
    """

    program: Program
    eval: str
    models: Mapping[str, Path]
    full: Set[str]
    parent_dir: Path
    base: Path
    cache: Path
    work: Path
    progress: Progress


def run_eval(inputs: EvalInputs) -> Evaluation:
    """Measure the parent and the children.

    Every model gets params, checkpoint_bytes, kl, perplexity and top-1, 5 and 10 agreement; the parent and the models in
    full also get tasks and, in scenarios on a measured hardware, speed. Children are compared with the parent item by item
    and block by block. All figures but speed are the same at every run on the same machine. Raises DiagnosticError.
    """
    parent_dir, models = inputs.parent_dir, inputs.models.items()
    plan = plan_of(inputs.program, inputs.eval, parent_dir, inputs.base, inputs.cache)
    bench = Bench(plan, parent_dir, inputs.work, inputs.progress)
    measured = [bench.measure("parent", parent_dir, full=True)]
    measured += [bench.measure(name, directory, full=name in inputs.full) for name, directory in models]
    shutil.rmtree(inputs.work, ignore_errors=True)
    parent, *children = measured
    comparisons = [
        compare(child.figures.model, child.samples, parent.samples, child.chances, child.figures.texts)
        for child in children
    ]
    return Evaluation(
        eval=inputs.eval,
        texts=tuple(text.name for text in plan.texts),
        models=tuple(m.figures for m in measured),
        comparisons=tuple(comparisons),
    )
