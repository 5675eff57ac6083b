"""docs/paper.md and its pictures, from paper.json: the paper's figures, ours, and the reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.paper.result import Table
from benchmarks.paper.tables import tables
from puzzledsl.base.files import write_text

ROOT = Path(__file__).parents[2]
DOCUMENT, RESULTS = ROOT / "docs" / "paper.md", ROOT / "docs" / "paper.json"
TIMES = ROOT / "docs" / "paper_times.json"
"""Seconds that each table took, and what was timed: another run would not give them again."""
LIBRARY = "library"
"""The entry of the block library and its scores among the times."""
HEAD = """\
# The paper in miniature

Each table and figure of Puzzle ([arXiv 2411.19146](https://arxiv.org/abs/2411.19146)) is a small program here, run on
SmolLM2-135M-Instruct: the paper's figures, ours beside them, and a verdict on each finding. `python examples/smollm2/prepare.py`
fetches the model and the texts, then `python -m benchmarks.paper` redoes all of it on two cores; `--budget night` and
`--budget gpu` spend more. What is here was made with the budget `quick`: three seeds or more where something is drawn by
chance, and 19 GB of disk for the children.

A model of 135M parameters is not a model of 70B, and thousands of tokens are not billions: where we disagree, the reading says
what was found about the cause. KL is in nats a token of held-out text, to the parent; lower is better. Brackets are 95 %
intervals over samples that both children are judged on, and over seeds where something is drawn by chance. A verdict is *agree*
or *disagree* where the interval excludes 0, else *cannot tell*. [paper.json](paper.json) has every figure of this page.

Tables 10 to 12 and Figures 6 and 7 rest on one block library and one draw of scores: their speed-ups vary the child alone.
"""


def shown(cell: Any, decimals: int) -> str:
    """A cell of paper.json as the page shows it: a text, a figure, or a figure with its interval."""
    if isinstance(cell, str):
        return cell
    value, low, high = (number(cell[name], decimals) for name in ("value", "low", "high"))
    return value if cell["low"] == cell["high"] else f"{value} ({low} to {high})"


def number(value: float, decimals: int) -> str:
    """A number with so many decimals; thousands with commas; whole numbers as they are."""
    if value == int(value) and abs(value) >= 10:
        return f"{int(value):,}"
    text = f"{value:,.{decimals}f}"
    return "0" if float(text.replace(",", "")) == 0 and value == 0 else text


def section(
    table: Table, result: Mapping[str, Any], seconds: float | None, timed: Mapping[str, Any] | None = None
) -> str:
    """The part of the page that one table has. `timed`: what was timed on this machine, see `timed_rows`."""
    took = "" if seconds is None else f" Took {_duration(seconds)} with the block library at hand."
    lines = [
        f"## {table.title}: {table.question}",
        "",
        f"The paper: {table.paper}",
        "",
        f"Here (`examples/paper/{table.program}`, `python -m benchmarks.paper {table.name}`):{took}",
        "",
        _row(result["columns"]),
        _row(["---"] * len(result["columns"])),
        *(_row([shown(cell, table.decimals) for cell in row]) for row in result["rows"]),
        "",
    ]
    if (ROOT / "docs" / "assets" / "paper" / f"{table.name}.svg").is_file():
        lines += [f"![{table.question}](assets/paper/{table.name}.svg)", ""]
    for claim in result["claims"]:
        gain = shown(claim["gain"], table.decimals)
        lines.append(f"- **{claim['verdict']}**: {claim['statement']}; {gain} {claim['unit']}.")
    figures = {
        name: f"{int(value):,}" if value == int(value) else number(value, table.decimals)
        for name, value in result["figures"].items()
    }
    lines += ["", result["reading"].format(**figures), ""]
    return "\n".join([*lines, *(timed_rows(timed, table.decimals) if timed else ())])


def timed_rows(timed: Mapping[str, Any], decimals: int) -> list[str]:
    """A table of figures that another run would not give again: `machine`, `columns` and `rows` of texts and numbers."""
    rows = [
        _row([cell if isinstance(cell, str) else number(cell, decimals) for cell in row])
        for row in timed["rows"]
    ]
    head = [_row(timed["columns"]), _row(["---"] * len(timed["columns"]))]
    return [f"Timed on this machine ({timed['machine']}):", "", *head, *rows, ""]


def document(results: Mapping[str, Any], times: Mapping[str, Any]) -> str:
    """The whole page."""
    known = tables()
    timed = times.get("timed", {})
    parts = [
        section(known[name], results[name], times.get(name), timed.get(name))
        for name in known
        if name in results
    ]
    return "\n".join([HEAD, summary(results, times), *parts])


def summary(results: Mapping[str, Any], times: Mapping[str, Any]) -> str:
    """The table of all verdicts, and the time that all took."""
    lines = [_row(["", "question", "agree", "disagree", "cannot tell"]), _row(["---"] * 5)]
    for name, table in tables().items():
        if name in results:
            verdicts = [claim["verdict"] for claim in results[name]["claims"]]
            counts = [str(verdicts.count(word) or "") for word in ("agree", "disagree", "cannot tell")]
            anchor = f"{table.title}-{table.question}".lower().replace(" ", "-")
            anchor = "".join(c for c in anchor if c.isalnum() or c == "-")
            lines.append(_row([f"[{table.title}](#{anchor})", table.question, *counts]))
    if results.keys() <= times.keys() and LIBRARY in times:
        seconds = sum(times[name] for name in [LIBRARY, *results])
        lines += [
            "",
            f"Together they took {_duration(seconds)}, of which the block library and its scores {_duration(times[LIBRARY])}.",
        ]
    if missing := [table.title for name, table in tables().items() if name not in results]:
        lines += ["", f"Programs whose results are not here yet: {', '.join(missing)}."]
    return "\n".join([*lines, ""])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def write_document(results: Mapping[str, Any], times: Mapping[str, Any]) -> None:
    """Write docs/paper.json, docs/paper_times.json, the pictures and docs/paper.md."""
    from benchmarks.paper.figures import write_figures

    for path, value in ((RESULTS, results), (TIMES, times)):
        write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    write_figures(results, ROOT / "docs" / "assets" / "paper")
    write_text(DOCUMENT, document(results, times))
