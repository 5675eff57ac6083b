"""Cache of measured losses as checksummed JSON lines, so that resumed runs and scores of other metrics measure nothing twice."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from puzzledsl.base.checksums import sealed_line, unsealed_line
from puzzledsl.base.files import write_text
from puzzledsl.scoring.measures import Figures

Name = tuple[int, str, str]
"""(layer, table, alternative or pair of alternatives)."""


class MemoryCache:
    """Metrics by name in memory."""

    def __init__(self) -> None:
        self.figures: dict[Name, Figures] = {}

    def add(self, name: Name, figures: Figures) -> None:
        """Keep one entry."""
        self.figures[name] = figures

    def restore_order(self, order: Sequence[Name], *, shuffled: bool = False) -> None:
        """Do nothing: there is no file."""


class FiguresCache(MemoryCache):
    """A file of metrics by name. It is emptied if its key differs from `key`, a string of everything that metrics depend on."""

    def __init__(self, path: Path, key: str) -> None:
        super().__init__()
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
        super().add(name, figures)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(sealed_line(json.dumps([*name, figures])))
            file.flush()
            os.fsync(file.fileno())

    def restore_order(self, order: Sequence[Name], *, shuffled: bool = False) -> None:
        """Rewrite a file that had damaged lines, or is `shuffled`, to the bytes of an undamaged run in one process.

        Call it when all of `order`, the order of such a run, is measured.
        """
        if self._damaged or shuffled:
            self.figures = {name: self.figures[name] for name in [*order, *self.figures]}
            self.copy_to(self._path)
            self._damaged = False

    def copy_to(self, path: Path) -> None:
        """Write all entries, with the key, to another file."""
        lines = [self._head, *(json.dumps([*name, figures]) for name, figures in self.figures.items())]
        write_text(path, "".join(map(sealed_line, lines)))
