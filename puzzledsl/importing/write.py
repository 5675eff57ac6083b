"""Files of an imported run: `scores.csv`, `costs.csv` and a program over them that is ready to check and solve."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.families.literal import FLAGS, USUAL, shape_of_literal
from puzzledsl.families.registry import FAMILIES
from puzzledsl.importing.imported import Imported, is_number
from puzzledsl.language.words import KEYWORDS

GOALS = ("cosine_embedding_loss_hidden_states", "kl_div_loss", "kl_div", "lm_loss")
REQUIREMENTS = {
    "memory_mib": ("{scenario}.memory", "MiB"),
    "kv_cache_memory_mib": ("{scenario}.kv_cache", "MiB"),
    "runtime_ms": ("{scenario}.latency", "ms"),
    "num_params": ("params", ""),
    "active_params": ("active_params", ""),
    "attention_num_params": ("sum(attention.params)", ""),
    "ffn_num_params": ("sum(ffn.params)", ""),
    "num_kv_heads": ("sum(attention.kv_heads)", ""),
    "has_attention": ("count(attention is not noop)", ""),
    "has_ffn": ("count(ffn is not noop)", ""),
}
"""Puzzletron's `stats.X` -> the expression in this language and its unit."""
MAX_BOUND = Decimal(10) ** 30
EXAMPLE_RATIO = "0.7x"


def files_of(imported: Imported, base: Path) -> dict[str, str]:
    """Return file name -> text, for a directory `base`, with the program last."""
    files = {"scores.csv": scores_csv(imported)}
    if imported.measurements:
        files["costs.csv"] = costs_csv(imported)
    files["puzzletron.pzl"] = program_text(imported, base)
    return files


def scores_csv(imported: Imported) -> str:
    """Return one row per replacement and one column per metric. A replacement of one sub-block names that sub-block alone."""
    metrics = list(imported.scores)
    keys = sorted(
        {key for values in imported.scores.values() for key in values},
        key=lambda k: (k[0], k[1][0].name, k[1][1].name),
    )
    rows = []
    for layer, (attention, ffn) in keys:
        a = "" if isinstance(attention, ParentAttention) else attention.name
        f = "" if isinstance(ffn, ParentFfn) else ffn.name
        values = [imported.scores[m].get((layer, (attention, ffn))) for m in metrics]
        rows.append([layer, a, f, *("" if v is None else _plain(v) for v in values)])
    return _csv(["layer", "attention", "ffn", *map(identifier, metrics)], rows)


def costs_csv(imported: Imported) -> str:
    """Return one row per sub-block and layer, with columns for each measurement: memory, KV cache in MiB, latency in ms."""
    columns: list[str] = []
    rows: dict[tuple[int, str, str], dict[str, str]] = {}
    for m in imported.measurements:
        known = [
            c for c in ("memory[MiB]", "kv_cache[MiB]", "latency[ms]") if all(c in x.figures for x in m.costs)
        ]
        columns += [f"{m.name}.{column}" for column in known]
        for cost in m.costs:
            attention, ffn = ("" if part is None else part.name for part in (cost.attention, cost.ffn))
            row = rows.setdefault((-1 if cost.layer is None else cost.layer, attention, ffn), {})
            row |= {f"{m.name}.{column}": _plain(cost.figures[column]) for column in known}
            if cost.params is not None:
                row["params"] = str(cost.params)
    lines = [
        ["" if layer < 0 else layer, a, f, *(row.get(column, "") for column in ("params", *columns))]
        for (layer, a, f), row in sorted(rows.items())
    ]
    return _csv(["layer", "attention", "ffn", "params", *columns], lines)


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}" if abs(value.adjusted()) < 12 else str(value)


def _csv(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def program_text(imported: Imported, base: Path) -> str:
    """Return the `.pzl` program over the two tables."""
    blocks = [
        [f"## Imported from {_one_line(imported.source.name or str(imported.source))}.", *_notes(imported)],
        list(_parent(imported, base)),
        list(_space(imported)),
        list(_hardware(imported)),
        [f'score {identifier(m)} of puzzle = table("scores.csv")' for m in imported.scores],
    ]
    searches = list(_searches(imported))
    return "\n".join("\n".join(block) + "\n" for block in [*blocks, *searches] if block)


def _notes(imported: Imported) -> Iterator[str]:
    if count := imported.left_out:
        have = "1 replacement has" if count == 1 else f"{count} replacements have"
        yield f"# {have} a metric that is not finite: left out, as the tool itself does."
    for metric in imported.unanchored:
        yield f"# {identifier(metric)} is left out: what the parent itself has is not in the run."
    missing = sum(
        1
        for layer in imported.layers
        for a in {p[0] for p in layer}
        for f in {p[1] for p in layer}
        if (a, f) not in layer
    )
    if missing:
        yield f"# {missing} pairs were not measured together: they score the sum of their two sub-blocks."


def _parent(imported: Imported, base: Path) -> Iterator[str]:
    """Yield the parent as its sizes; one that the usual sizes do not describe as its directory."""
    s = imported.shape
    takes = FAMILIES[s.family].takes
    flags = [name for name in FLAGS if name in takes]
    names = (*USUAL, *flags, *(["window"] if s.window is not None else []))
    sizes = {name: getattr(s, name) for name in names}
    path = os.path.relpath(imported.parent, base)
    if shape_of_literal(FAMILIES[s.family], sizes) != s:
        yield f'parent teacher = hf("{path}")'
        return
    yield f'# its weights are in "{path}": `parent teacher = hf("{path}")` reads them'
    said = [f"{name}: {str(value).lower()}" for name, value in sizes.items()]
    yield "parent teacher = shape("
    yield from (f"  {', '.join(line)}," for line in (said[:5], said[5:9], said[9:13], said[13:]) if line)
    yield ")"


def _space(imported: Imported) -> Iterator[str]:
    """Yield the most common choice, then the layers that differ from it."""
    choices = [tuple(_alternatives({pair[i] for pair in layer}) for i in (0, 1)) for layer in imported.layers]
    (attention, ffn), _ = Counter(choices).most_common(1)[0]
    yield "space puzzle of teacher {"
    yield f"  attention = {attention}"
    yield f"  ffn = {ffn}"
    for part, common in ((0, attention), (1, ffn)):
        other = [(i, c[part]) for i, c in enumerate(choices) if c[part] != common]
        for text, run in groupby(_runs(other), key=lambda r: r[1]):
            where = ", ".join(layers for layers, _ in run)
            yield f"  layers[{where}].{('attention', 'ffn')[part]} = {text}"
    yield "}"


def _runs(layers: list[tuple[int, str]]) -> list[tuple[str, str]]:
    """Merge neighbouring layers with the same text into one range."""
    runs: list[list[Any]] = []
    for index, text in layers:
        if runs and runs[-1][1] == index - 1 and runs[-1][2] == text:
            runs[-1][1] = index
        else:
            runs.append([index, index, text])
    return [(str(a) if a == b else f"{a}..{b}", text) for a, b, text in runs]


def _alternatives(found: set[Any]) -> str:
    """Return a choice in source form: the parent's alternative, then sizes from large to small, linear, no-op."""
    heads = sorted((a.kv_heads for a in found if isinstance(a, GqaAttention)), reverse=True)
    widths = sorted((f.width for f in found if isinstance(f, MlpFfn)), reverse=True)
    names = {a.name for a in found}
    parts = ["parent"]
    if heads:
        parts.append(f"gqa(kv_heads: {' | '.join(map(str, heads))})")
    if widths:
        parts.append(f"mlp(width: {' | '.join(map(str, widths))})")
    return " | ".join([*parts, *(name for name in ("linear", "noop") if name in names)])


def _hardware(imported: Imported) -> Iterator[str]:
    if not imported.measurements:
        return
    yield 'hardware measured_there = table("costs.csv")'
    for m in imported.measurements:
        yield f"scenario {m.name} on measured_there = batch({m.batch}, {m.prompt} -> {m.output})"


def _searches(imported: Imported) -> Iterator[list[str]]:
    """Yield one search for each search of the run, with its objective and constraints; if there is none, an example."""
    taken: set[str] = set()
    for folder, solution in imported.solutions:
        text = _search(imported, folder, solution, taken)
        if text:
            yield text
    if not taken:
        yield [*_first_search(imported)]


def _search(imported: Imported, folder: str, solution: Mapping[str, Any], taken: set[str]) -> list[str]:
    args = solution.get("puzzle_args")
    if not isinstance(args, dict):
        return []
    goal = str(args.get("objective", "")).removeprefix("metrics.").removeprefix("one_minus_")
    scenario = _measured_at(imported, args.get("subblock_stats_args"))
    constraints = args.get("mip_constraints")
    if goal not in imported.scores or not isinstance(constraints, dict):
        return []
    name = identifier(folder)
    while name in taken:
        name += "_again"
    taken.add(name)
    body = [line for stat, bound in constraints.items() for line in _require(stat, bound, scenario)]
    found = solution.get("total_value")
    note = [
        f"## the run's own answer had {goal} {found[k]}"
        for k in [f"metrics.{goal}"]
        if isinstance(found, dict) and k in found
    ]
    return [*note, f"search {name} of puzzle {{", f"  minimize {identifier(goal)}", *body, "}"]


def _measured_at(imported: Imported, wanted: object) -> str | None:
    """Return the measurement that matches a run's `subblock_stats_args`; None if none does."""
    if not isinstance(wanted, dict):
        return None
    for m in imported.measurements:
        if all(m.args.get(key) == value for key, value in wanted.items()):
            return m.name
    return None


def _require(stat: str, bound: object, scenario: str | None) -> Iterator[str]:
    known = REQUIREMENTS.get(stat.removeprefix("stats."))
    low, high = bound if isinstance(bound, list) and len(bound) == 2 else (None, bound)
    ends = [
        (op, Decimal(value))
        for op, value in ((">=", low), ("<=", high))
        if is_number(value) and Decimal(value).is_finite() and abs(Decimal(value)) < MAX_BOUND
    ]
    if known is None or not ends or ("{scenario}" in known[0] and scenario is None):
        yield f"  # `{_one_line(stat)}` of the run has no word here: {_one_line(json.dumps(bound, default=float))}"
        return
    left, unit = known[0].format(scenario=scenario), known[1]
    for op, value in ends:
        yield f"  require {left} {op} {_plain(value)}{unit}"


def _one_line(text: str) -> str:
    """Return a text on one line, cut to 80 characters, for a comment."""
    return " ".join(text.split())[:80]


def _first_search(imported: Imported) -> Iterator[str]:
    goal = next((g for g in GOALS if g in imported.scores), next(iter(imported.scores), None))
    if goal is None:
        return
    yield "search best of puzzle {"
    yield f"  minimize {identifier(goal)}"
    if imported.measurements:
        name = imported.measurements[-1].name
        yield f'  require {name}.memory <= {EXAMPLE_RATIO} because "a first guess: say what you need"'
    else:
        yield f'  require params <= {EXAMPLE_RATIO[:-1]} * teacher.params because "a first guess: say what you need"'
    yield "}"


def identifier(text: str) -> str:
    """Return a valid identifier for a name."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "unnamed"
    return f"n{name}" if name[0].isdigit() else f"{name}_" if name in KEYWORDS else name
