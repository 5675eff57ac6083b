"""Score table from the metrics of single replacements, and their cache of checksummed JSON lines.

With the cache, resumed runs and scores of other metrics measure nothing twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from puzzledsl.base.files import sealed_line, unsealed_line, write_text
from puzzledsl.ir.tables import RunScore, ScoreTable
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.replacements import Run


def score_table(
    score: str,
    metric: str,
    unit: Literal["subblock", "block"],
    samples: int,
    layers: int,
    figures: Mapping[Name, Figures],
    runs: Sequence[Run] = (),
) -> ScoreTable:
    """Build the table of one metric from all cached metrics. The parent's own sub-blocks score 0 and are left out.

    Only the runs in `runs` are included.
    """
    names = ("attention", "ffn", "pairs")
    tables: dict[str, list[dict[str, float]]] = {table: [{} for _ in range(layers)] for table in names}
    for (layer, table, name), figure in figures.items():
        if layer >= 0 and table in tables:
            tables[table][layer][name] = figure[metric]
    return ScoreTable(
        score=score,
        metric=metric,
        samples=samples,
        unit=unit,
        attention=() if unit == "block" else tuple(tables["attention"]),
        ffn=() if unit == "block" else tuple(tables["ffn"]),
        pairs=tuple(tables["pairs"]) if unit == "block" else (),
        runs=tuple(
            RunScore(
                first=run.layer, length=run.length, value=figures[run.layer, run.table, run.name][metric]
            )
            for run in runs
        ),
    )


Name = tuple[int, str, str]
"""(layer, table, alternative or pair of alternatives)."""


class FiguresCache:
    """A file of metrics by name. It is emptied if its key differs from `key`, a string of everything that metrics depend on."""

    def __init__(self, path: Path, key: str) -> None:
        self.figures: dict[Name, Figures] = {}
        self._path, self._head = path, json.dumps({"key": key})
        self._damaged = False
        lines = self._complete_lines()
        if lines and unsealed_line(lines[0]) == self._head:
            for line in lines[1:]:
                if (text := unsealed_line(line)) is None:
                    self._damaged = True  # the line's entry is measured again
                else:
                    layer, table, name, figures = json.loads(text)
                    self.figures[layer, table, name] = figures
        else:
            write_text(self._path, sealed_line(self._head))

    def _complete_lines(self) -> list[str]:
        """Return the complete lines; an incomplete last line is cut off the file."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)
        return content[:whole].decode(errors="replace").split("\n")[:-1]

    def add(self, name: Name, figures: Figures) -> None:
        """Append one entry; on return it is on the disk."""
        self.figures[name] = figures
        with self._path.open("a", encoding="utf-8") as file:
            file.write(sealed_line(json.dumps([*name, figures])))
            file.flush()
            os.fsync(file.fileno())

    def restore_order(self, order: Sequence[Name], *, shuffled: bool = False) -> None:
        """Rewrite a damaged or `shuffled` file to the bytes of one whole run, once all of `order` is measured."""
        if self._damaged or shuffled:
            self.figures = {name: self.figures[name] for name in [*order, *self.figures]}
            self.copy_to(self._path)
            self._damaged = False

    def copy_to(self, path: Path) -> None:
        """Write all entries, with the key, to another file."""
        lines = [self._head, *(json.dumps([*name, figures]) for name, figures in self.figures.items())]
        write_text(path, "".join(map(sealed_line, lines)))
