"""Tasks of the pipeline."""

from puzzledsl.pipeline.task import Task
from puzzledsl.pipeline.tasks.children import Eval, Export, Realise, Report, Uptrain
from puzzledsl.pipeline.tasks.making import Bld, Measure, Score
from puzzledsl.pipeline.tasks.searching import Frontier, Refine, Solve

IN_ORDER = Measure, Bld, Score, Solve, Frontier, Refine, Realise, Uptrain, Eval, Export, Report
TASKS: dict[str, type[Task]] = {kind.stage: kind for kind in IN_ORDER}
"""Stage -> its task, in the order of a run."""
