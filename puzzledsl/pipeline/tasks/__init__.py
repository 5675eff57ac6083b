"""Tasks of the pipeline, one or two a file. Every subclass of Task in a module here is one; nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from puzzledsl.pipeline.task import Task


def found() -> Iterator[type[Task]]:
    """Yield the tasks that each module defines."""
    for module in pkgutil.iter_modules(__path__):
        values = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        yield from (v for v in values if isinstance(v, type) and v.__module__ == f"{__name__}.{module.name}")


def in_order(kinds: list[type[Task]], after: str = "") -> Iterator[type[Task]]:
    """Yield the kinds of tasks in the order of a run: each behind the one that its `after` names."""
    for kind in sorted((k for k in kinds if k.after == after), key=lambda k: k.stage):
        yield kind
        yield from in_order(kinds, kind.stage)


TASKS = {kind.stage: kind for kind in in_order(list(found()))}
"""Stage -> its task, in the order of a run."""
