"""Read a score table from a user's file: a long table (see costs/csv_table.py) with a score column.

A layer's score is its pair's row if there is one, else the sum of its two sub-blocks' rows. A row of layers `12-17` with `noop`
for both sub-blocks is the score of dropping the whole run.
"""

import math
import re
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TypeVar

from puzzledsl.alternatives.alternative import SUB_BLOCKS, EndName, Site
from puzzledsl.alternatives.registry import is_canonical
from puzzledsl.base.diagnostics import DiagnosticError, Mistake, Sink
from puzzledsl.base.phrases import closest, layers_in_words
from puzzledsl.costs import csv_table
from puzzledsl.costs.csv_table import Line, LongTable, RowProblems
from puzzledsl.ir.base import span_of
from puzzledsl.ir.facts import Run
from puzzledsl.ir.nodes import EndsChoice, Score, ScoreFromTable, Space
from puzzledsl.ir.tables import RunScore, ScoreTable

SHOWN_GAPS = 3
COST_COLUMN = re.compile(r"[^.\[\]]+\.[^.\[\]]+(\[[^\[\]]*\])?")
Layer = tuple[int, str, str]  # layer, attention, ffn
Key = TypeVar("Key")


ScoreTableUnreadable = Mistake("E0511", "cannot read the score table `{path}`: {reason}", "{help}")
ScoreTableCell = Mistake("E0512", "`{path}` {line}: {problem}", "{help}")
ScoreTableGap = Mistake(
    "E0513",
    "`{path}` has no score for {missing}",
    "add a row for each alternative of each layer; `parent` may be left out, it is 0",
)


def read_score_table(path: Path, score: Score, space: Space) -> ScoreTable:
    """Read a CSV file with columns `layer`, `attention`, `ffn` and a score column.

    Where the ends of the model have a choice, there are columns `embedding` and `head` as well.

    The score column is the one named like the score, else the only column that is not a cost. Rows with an empty score are
    skipped: they are about costs only. Raises DiagnosticError with all mistakes.
    """
    shown = score.method.path if isinstance(score.method, ScoreFromTable) else str(path)
    declared, sink = span_of(score.where), Sink()
    try:
        table = csv_table.read_long_table(path, shown)
    except csv_table.NoTable as error:
        unreadable = ScoreTableUnreadable(declared, path=shown, reason=error.reason, help=error.help)
        raise DiagnosticError(unreadable) from error
    help = f"the first line is `layer,attention,ffn,{score.name}`"
    keys = (*csv_table.KEYS, *csv_table.MORE_KEYS, *csv_table.END_KEYS)
    own = [n for n in table.header.cells if n and n not in keys and not COST_COLUMN.fullmatch(n)]
    wrong = [*table.header_problems()]
    if not wrong and score.name not in table.header.cells and len(own) != 1:  # unclear which has the scores
        near = closest(score.name, own)
        meant = f": did you mean `score {near}`?" if near else ""
        listed = f"none of its columns {', '.join(own)} is named `{score.name}`{meant}"
        wrong = [listed if own else "there is no score column"]
    for problem in wrong:
        sink.add(ScoreTableUnreadable(declared, path=shown, reason=problem, help=help))
    if not sink.has_errors:
        problems = RowProblems(table, declared, sink, ScoreTableCell)
        reader = _Reader(table, score.name if score.name in table.header.cells else own[0], space, problems)
        for line in table.lines:
            reader.enter(line)
        problems.report()
        if not sink.items and (missing := reader.gaps()):
            sink.add(ScoreTableGap(declared, path=shown, missing=missing))
    if sink.has_errors:
        raise DiagnosticError(*sink.sorted())
    found = {"score": score.name, "metric": "table", "samples": 0, **reader.scores()}
    return ScoreTable.model_validate(found)


class _Reader:
    """The scores of a table's rows, and those that are missing."""

    def __init__(self, table: LongTable, column: str, space: Space, problems: RowProblems) -> None:
        self.table, self.column, self.problems = table, column, problems
        self.places = [table.header.cells.index(key) for key in (*csv_table.KEYS, self.column)]
        self.offered = [([a.name for a in c.attention], [f.name for f in c.ffn]) for c in space.layers]
        self.names: dict[Site, list[str]] = {
            part: ["parent", *dict.fromkeys(n for layer in self.offered for n in layer[i] if n != "parent")]
            for i, part in enumerate(SUB_BLOCKS)
        }
        choice = space.ends or EndsChoice()
        self.names["embedding"] = [end.name for end in choice.embedding]
        self.names["head"] = [end.name for end in choice.head]
        self.of_ends: dict[tuple[EndName, str], tuple[float, int]] = {}  # each: score and line number
        self.runs: dict[Run, tuple[float, int]] = {}
        self.rows: tuple[dict[Layer, tuple[float, int]], ...] = ({}, {})  # of all layers, and of one

    def enter(self, line: Line) -> None:
        """Enter one row, or report its mistakes."""
        if wrong := self.table.row_length(line):
            return self.problems.add(line, wrong)
        layer, *names, text = (line.cells[place] for place in self.places)
        if not text:
            return None
        try:
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            return self.problems.add(line, f"`{text[:40]}` in column `{self.column}` is no finite number")
        if (run := csv_table.written_run(layer)) is not None:
            return self.enter_run(line, run, value)
        if ends := [key for key in csv_table.END_KEYS if self.table.text(line, key)]:
            return self.enter_end(line, ends, value)
        if not any(names):
            return self.problems.add(line, "neither `attention` nor `ffn` is given")
        known = [self.is_known(line, part, name) for part, name in zip(SUB_BLOCKS, names, strict=True)]
        count = len(self.offered)
        if layer and not (layer.isdecimal() and len(layer) <= 9 and int(layer) < count):
            return self.problems.add(line, f"layer `{layer[:40]}` is not one of 0 to {count - 1}")
        attention, ffn = names
        for index in ((int(layer),) if layer else range(count)) if all(known) else ():
            if not self.put(line, self.rows[bool(layer)], (index, attention, ffn), value, "alternative"):
                break
        return None

    def put(self, line: Line, known: dict[Key, tuple[float, int]], key: Key, value: float, what: str) -> bool:
        """Enter a score into `known`, or report that a row before has another one, and return False. `what`: the key's kind."""
        before, number = known.setdefault(key, (value, line.number))
        if before != value:
            self.problems.add(line, f"this {what} is in line {number} too, with another score")
        return before == value

    def enter_run(self, line: Line, run: Run, value: float) -> None:
        """Enter the score of a run of layers, or report its mistake."""
        for part in SUB_BLOCKS:
            name = self.table.text(line, part)
            if name != "noop":
                whole = f"a run of layers is dropped whole: its {part} is `noop`, not `{name[:40]}`"
                return self.problems.add(line, whole)
        if sum(run) > len(self.offered):
            layers = self.table.text(line, "layer")
            return self.problems.add(line, f"`{layers}` is no run of layers 0 to {len(self.offered) - 1}")
        self.put(line, self.runs, run, value, "run")
        return None

    def enter_end(self, line: Line, ends: list[EndName], value: float) -> None:
        """Enter the score of one end of the model, or report the row's mistake."""
        site, *others = [*map(str, ends), *(key for key in csv_table.KEYS if self.table.text(line, key))]
        if others:
            return self.problems.add(line, f"a row of the {site} has no `{others[0]}`")
        name = self.table.text(line, ends[0])
        if self.is_known(line, ends[0], name):
            self.put(line, self.of_ends, (ends[0], name), value, "alternative")
        return None

    def is_known(self, line: Line, site: Site, name: str) -> bool:
        """True if a name is empty, or of an alternative that the site may have, in the space or not; else report the mistake."""
        known = self.names[site]
        if not name or name in known or is_canonical(name, site):
            return True
        near, listed = closest(name, known), ", ".join(known)
        help = f"did you mean `{near}`?" if near else f"names are as `pzl show` prints them: {listed}"
        self.problems.add(line, f"`{name[:40]}` is no {site} alternative of the space", help)
        return False

    @cached_property
    def entries(self) -> dict[Layer, float]:
        """The scores; rows of one layer overrule those of all layers."""
        return {key: value for key, (value, _) in (self.rows[0] | self.rows[1]).items()}

    @cached_property
    def has_pairs(self) -> bool:
        """True if some row is of a pair."""
        return any(a and f for _, a, f in self.entries)

    def gaps(self) -> str:
        """Return in words the pairs with neither a row nor one for each sub-block, and ends without one; parents need none."""
        missing: dict[str, dict[int, None]] = {}
        for layer, names in enumerate(self.offered):
            for pair in product(*names):
                if (layer, *pair) in self.entries:
                    continue
                keys = zip(SUB_BLOCKS, pair, ((layer, pair[0], ""), (layer, "", pair[1])), strict=True)
                lacking = [f"{p} `{n}`" for p, n, key in keys if n != "parent" and key not in self.entries]
                for what in [" with ".join(lacking)] if self.has_pairs and lacking else lacking:
                    missing.setdefault(what, {})[layer] = None
        told = [f"{what} in {layers_in_words([*layers])}" for what, layers in missing.items()]
        ends = [(site, name) for site in csv_table.END_KEYS for name in self.names[site]]
        told += [f"{site} `{n}`" for site, n in ends if n != "parent" and (site, n) not in self.of_ends]
        more = f" and {len(told) - SHOWN_GAPS} more" if len(told) > SHOWN_GAPS else ""
        return ", ".join(told[:SHOWN_GAPS]) + more

    def scores(self) -> dict[str, object]:
        """Return fields of a `ScoreTable`: scores by layer, of runs and of ends. A parent without a row counts as 0."""
        runs = [RunScore(first=f, length=n, value=value) for (f, n), (value, _) in sorted(self.runs.items())]
        score, layers = self.entries.get, [*enumerate(self.offered)]
        ends: dict[str, object] = {
            site: {name: value for (own, name), (value, _) in self.of_ends.items() if own == site}
            for site in csv_table.END_KEYS
        }
        if self.has_pairs:
            pairs = tuple(
                {
                    f"{a}/{f}": score((i, a, f), score((i, a, ""), 0.0) + score((i, "", f), 0.0))
                    for a, f in product(*names)
                    if (a, f) != ("parent", "parent") or (i, a, f) in self.entries
                }
                for i, names in layers
            )
            return {"unit": "block", "pairs": pairs, "runs": tuple(runs), **ends}
        own = [[(n, score((i, n, ""))) for n in (*names[0], "parent")] for i, names in layers]
        ffn = [[(n, score((i, "", n))) for n in (*names[1], "parent")] for i, names in layers]
        known = [tuple({n: v for n, v in layer if v is not None} for layer in part) for part in (own, ffn)]
        return {"attention": known[0], "ffn": known[1], "runs": tuple(runs), **ends}
