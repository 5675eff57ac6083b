"""Searches as users write them, ours against CP-SAT alone: `python -m benchmarks.structure`. The same command goes on.

Programs are text (structure_forms.py) and go through `pzl compile` and `pzl solve`: pairwise over form, way of writing, layers
and seeds. Ours is the time of `pzl solve` minus that of a program of two layers, measured in turn; CP-SAT's is its time on
the exported `search/best.pb`; each has one worker and the limit. Times are wall seconds, on a busy machine CPU seconds. A program
that misses a target of time is measured twice.
Each record is a line of `--results`, and its program is in `--folder`. Ends with 1 where a target is missed.

`--random N`, `--deadlines N` and `--same N` run checks in place of the comparison (structure_checks.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from benchmarks.structure_checks import CHECKS, checked
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import ALLOWED_S, FAULTS, PZL, Text, process, run, texts_of

LAYERS = (16, 32, 80)
SEEDS = (0, 1, 2)
LIMIT_S = 10.0
BUDGET_S = 2 * 3600
SAME_TIMES = 2.0
QUICK = ("heads_tied", "widths_never_grow+or", "gaps_counted", "two_gaps")


def plan(forms: Sequence[str], layers: Sequence[int], seeds: Sequence[int], limit_s: float) -> list[Text]:
    """All ways of each form at each number of layers, each with one seed; of joined forms, at one number of layers."""
    found: list[Text] = []
    for place, name in enumerate(forms):
        sizes = layers[place % len(layers) :][:1] if FORMS[name].join else layers
        for turn, n in enumerate(sizes):
            found += texts_of(FORMS[name], n, seeds[(place // len(layers) + turn) % len(seeds)], limit_s)
    return found


def main() -> None:
    """Run what is left of the plan and print all faults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few small programs")
    parser.add_argument("--only", nargs="+", metavar="FORM", choices=FORMS, default=None)
    parser.add_argument("--layers", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for each solver (default: 10)")
    parser.add_argument(
        "--results", type=Path, help="default: build/structure.jsonl, of a check build/structure-NAME.jsonl"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("build/structure"), help="where programs are written"
    )
    parser.add_argument("--pzl", type=Path, default=PZL, help="another installation's command")
    parser.add_argument("--list", action="store_true", help="write the programs and run none")
    for name, check in CHECKS.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=check.__doc__)
    parser.add_argument("--for", dest="seconds", type=float, default=BUDGET_S, help="seconds in all")
    options = parser.parse_args()
    for name in CHECKS:
        if number := getattr(options, name):
            results = options.results or Path(f"build/structure-{name}.jsonl")
            sys.exit(0 if checked(name, number, results) else 1)
    forms = options.only or (QUICK if options.quick else [*FORMS])
    texts = plan(
        forms, options.layers or ((6,) if options.quick else LAYERS), options.seeds or SEEDS, options.limit
    )
    if options.list:
        for text in texts:
            print(text.write(options.folder / text.name))
        return
    results = options.results or Path("build/structure.jsonl")
    records = go_on(texts, results, options.folder, options.limit, options.pzl, options.seconds)
    missed = [*summary(records, len(texts))]
    sys.exit(1 if missed else 0)


def go_on(
    texts: Sequence[Text], results: Path, folder: Path, limit_s: float, pzl: Path, seconds: float
) -> list[dict[str, Any]]:
    """The records of all texts, those that are there already among them, until time is up."""
    results.parent.mkdir(parents=True, exist_ok=True)
    known = (
        {r["key"]: r for r in map(json.loads, results.read_text().splitlines())} if results.exists() else {}
    )
    keys = [sha256(f"{text.name} {limit_s} {text.text}".encode()).hexdigest()[:16] for text in texts]
    startup = texts_of(FORMS["gaps_counted"], 2, 0, limit_s)[0].write(folder / "two_layers")
    if not known.keys() >= {*keys}:
        process([pzl, "compile", startup], startup.parent, 60)
    began, found = time.monotonic(), []
    for text, key in zip(texts, keys, strict=True):
        if key not in known:
            if time.monotonic() - began > seconds:
                continue
            known[key] = run(text, folder / text.name, limit_s, pzl, startup) | {"key": key}
            with results.open("a") as file:
                file.write(json.dumps(known[key]) + "\n")
            print(line(known[key]), flush=True)
        found.append(known[key])
    return found


def line(record: dict[str, Any]) -> str:
    """One program."""
    if "ours_s" not in record:
        return f"{record['name']}: {record['faults']}"
    times = f"{record['status']} {record['ours_s']:.2f} s, CP-SAT {record['cpsat'].lower()} {record['cpsat_s']:.2f} s"
    faults = "; ".join(f"{kind.upper()} {words}" for kind, words in record["faults"].items())
    return f"{record['name']}: {times}, {record['peak_mb']} MB" + (f": {faults}" if faults else "")


def summary(records: Sequence[dict[str, Any]], planned: int) -> Iterator[str]:
    """Print a line a target; give those that are missed."""
    clean = sum(not r["faults"] for r in records)
    print(f"{len(records)} of {planned} programs, {clean} without a fault")
    counts = {kind: [r["name"] for r in records if kind in r["faults"]] for kind in FAULTS}
    counts |= dict(zip(("different", "uneven"), between_ways(records), strict=True))
    for kind, names in counts.items():
        print(f"{kind}: {len(names)} (target: 0) {' '.join(names[:6])}")
        yield from [kind] if names else []
    yield from [] if len(records) == planned else ["unfinished"]


def between_ways(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Ways of the same meaning, both proven: those with other layers, and those that take more than twice as long."""
    different, uneven = [], []
    groups: dict[str, list[dict[str, Any]]] = {}
    for r in records:
        form, _, rest = r["name"].split(".", 2)
        if r.get("status") in ("optimal", "infeasible"):
            groups.setdefault(f"{form}.{rest}", []).append(r)
    for a, b in chain.from_iterable(combinations(group, 2) for group in groups.values()):
        fast, slow = sorted((a, b), key=lambda r: r["ours_s"])
        name = f"{slow['name']}/{fast['name'].split('.')[1]}"
        different += [name] if a["layers"] != b["layers"] else []
        uneven += [name] if slow["ours_s"] > SAME_TIMES * fast["ours_s"] + ALLOWED_S else []
    return different, uneven


if __name__ == "__main__":
    main()
