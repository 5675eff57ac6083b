"""One program as text: compiled, solved by `pzl solve` and by CP-SAT alone on its `search/best.pb`, its answers evaluated."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import combinations
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np

from benchmarks.structure_form import Draw, Form, Meaning, Value
from benchmarks.structure_text import MENUS, SCENARIOS, Child, Menu, Rng, Tables, World

PZL = Path(sys.executable).with_name("pzl")
MEMORY_BYTES = 6 * 2**30  # more is refused; a search stays under LARGE_BYTES
LARGE_BYTES = 10**9
COMPILE_S = 120.0
KILLED = 4  # times the limit
TOLERANCE = Fraction(1, 10**8)  # of values, which results hold as floats and searches as whole numbers
LATE_S, LATE_SHARE = 0.3, 0.05  # a run may end so much after its limit, whichever is more
SLOWER, ALLOWED_S = 1.5, 0.3
FAULTS = ("wrong", "refused", "crashed", "worse", "late", "unproven", "none", "slow", "large")
OF_TIME = ("worse", "late", "unproven", "none", "slow")  # faults that a busy machine may cause

Faults = dict[str, str]
Preferred = Callable[[str], int]  # the number that a column adds to a preference, by the column's name


@dataclass(frozen=True)
class Text:
    """A program as text, its tables and its meaning."""

    form: str
    way: str
    world: World
    meaning: Meaning
    text: str

    @property
    def name(self) -> str:
        """Form, way, layers and seed."""
        return f"{self.form}.{self.way}.{self.world.layers}.{self.world.seed}"

    def write(self, folder: Path) -> Path:
        """Write the program into a folder of its own."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in {"program.pzl": self.text, **self.world.files()}.items():
            (folder / name).write_text(text, "utf-8")
        return folder / "program.pzl"


def texts_of(form: Form, layers: int, seed: int, limit_s: float, menu: Menu | None = None) -> list[Text]:
    """All ways of a form in one world, with one or two budgets beside it."""
    world = World(
        layers,
        seed,
        form.menu or menu or MENUS[seed % 3],
        form.runs,
        measured=seed % 3 == 1 and not form.priced,
        ends=form.ends,
    )
    rng = np.random.default_rng([seed, layers, *form.name.split("+")[0].encode()])
    meaning = form.meaning(Draw(world, rng))
    meaning, budgets = with_budgets(meaning, rng, seed) if meaning.budgets else (meaning, "")
    rules = f"# {form.name}: {', '.join(form.rules)}"
    return [
        Text(
            form.name,
            way,
            world,
            meaning,
            program(world, meaning, f"{rules}\n{text}", budgets, limit_s, seed),
        )
        for way, text in meaning.ways.items()
    ]


def with_budgets(meaning: Meaning, rng: Rng, seed: int) -> tuple[Meaning, str]:
    """The meaning with budgets, and their text."""
    shares = [("chat", "latency", f"{rng.uniform(0.6, 0.85):.3f}")]
    second = [[], [("chat", "memory")], [("rag", "latency")]][seed % 3]
    shares += [(scenario, metric, f"{rng.uniform(0.7, 0.9):.3f}") for scenario, metric in second]

    def holds(c: Child) -> bool:
        met = all(c.share(s, m) <= Fraction(most) for s, m, most in shares)
        return met and meaning.holds(c)

    return replace(meaning, holds=holds), "\n  ".join(f"require {s}.{m} <= {most}x" for s, m, most in shares)


def program(world: World, meaning: Meaning, body: str, budgets: str, limit_s: float, seed: int) -> str:
    """The whole text."""
    table = 'hardware h = table("costs.csv")\n'
    profile = (
        'use "std/hardware.pzl" (h100_sxm)\n'
        "hardware h = h100_sxm(dtype: fp8, kv_cache: fp8, price: 2.5 USD/h, power: 700W)\n"
    )
    usual = "".join(f"scenario {n} on h = batch({b}, {p} -> {o})\n" for n, (b, p, o) in SCENARIOS.items())
    inherited = "BUDGETS" in meaning.before
    lines = [meaning.goal, "" if inherited else budgets, *body.split("\n")]
    return (
        f"{table if world.measured else profile}{world.text}{meaning.scenarios or usual}"
        f"{meaning.before.replace('BUDGETS', budgets)}\n{meaning.head} {{\n"
        + "".join(f"  {line}\n" for line in lines if line)
        + f"  solver = cpsat(time: {limit_s:g}s, seed: {seed})\n}}\n"
    )


# ---------------------------------------------------------------- processes


@dataclass(frozen=True, slots=True)
class Ended:
    """A process: seconds (the smaller of wall and CPU time: a machine may be busy), peak memory, what it printed."""

    seconds: float
    peak_bytes: int
    code: int
    out: str


def process(arguments: Sequence[str | Path], folder: Path, limit_s: float) -> Ended:
    """Run a command; killed after `limit_s`. `out`: its stdout, or its stderr where it fails."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    with (folder / "out.txt").open("wb") as out, (folder / "err.txt").open("wb") as err:
        began = time.monotonic()
        run = subprocess.Popen([*map(str, arguments)], stdout=out, stderr=err, preexec_fn=limit)
        timer = Timer(limit_s, run.kill)
        timer.start()
        _, status, used = os.wait4(run.pid, 0)
        wall_s = time.monotonic() - began
        timer.cancel()
        run.returncode = os.waitstatus_to_exitcode(status)
    text = (folder / "out.txt").read_text("utf-8") or (folder / "err.txt").read_text("utf-8")
    return Ended(min(wall_s, used.ru_utime + used.ru_stime), used.ru_maxrss * 1024, run.returncode, text)


def solve(pzl: Path, file: Path, limit_s: float) -> Ended:
    """`pzl solve`, of a search that is not solved yet."""
    shutil.rmtree(file.parent / "build" / "solutions", ignore_errors=True)
    for stamp in (file.parent / "build").glob("stamps/solve-*"):
        stamp.unlink()
    return process([pzl, "solve", file, "best", "--json"], file.parent, KILLED * limit_s + 10)


@dataclass(frozen=True, slots=True)
class Said:
    """CP-SAT's answers: seconds, seconds until the first one, its status, the columns' names of each answer."""

    seconds: float
    first_s: float | None
    status: str
    answers: tuple[tuple[tuple[str, str], ...], ...]


def plain_cpsat(
    model: bytes, limit_s: float, solutions: int, apart: int, preferred: Sequence[Preferred] = ()
) -> Said:
    """CP-SAT alone: one worker, default parameters, no gap. Each further answer differs from the others in `apart` layers.

    The model has the first goal only. `preferred` are the others, a number of each column's name: CP-SAT solves one after the
    other, each without loss in those before.
    """
    from google.protobuf import text_format
    from ortools.sat import cp_model_pb2

    proto = cp_model_pb2.CpModelProto.FromString(model)
    names = [v.name for v in proto.variables]
    layers = 1 + max(int(name.split("/")[0]) for name in names if name[:1].isdigit())
    answers: list[tuple[tuple[str, str], ...]] = []
    wall_s, first_s, status, busy_s = 0.0, None, "OPTIMAL", time.process_time()
    while len(answers) < solutions and status == "OPTIMAL" and wall_s < limit_s:
        status, taken, took_s, found_s = _once(text_format.MessageToString(proto), limit_s - wall_s)
        first_s = wall_s + found_s if first_s is None and found_s is not None else first_s
        wall_s += took_s
        for number in preferred:
            if status != "OPTIMAL" or wall_s >= limit_s:
                break
            _aim_next(proto, taken, number)
            status, found, took_s, _ = _once(text_format.MessageToString(proto), limit_s - wall_s)
            taken, wall_s = found or taken, wall_s + took_s
        columns = [i for i in taken if names[i][:1].isdigit()]
        if columns:
            keys = sorted((int(n), a, f.split("#")[0]) for n, a, f in (names[i].split("/") for i in columns))
            ends = [
                names[i].removeprefix("embedding=").split("/head=") for i in taken if "/head=" in names[i]
            ]
            answers.append((*((a, f) for _, a, f in keys), *((e, h) for e, h in ends)))
            far = proto.constraints.add().linear
            far.vars.extend(columns)
            far.coeffs.extend([1] * len(columns))
            far.domain.extend([0, layers - apart])
    return Said(min(wall_s, time.process_time() - busy_s), first_s, status, tuple(answers))


def _aim_next(proto: Any, taken: Sequence[int], number: Preferred) -> None:
    """Keep the sum of the model's objective as it is in an answer, and maximise a number of the columns instead."""
    goal, kept = proto.objective, proto.constraints.add().linear
    kept.vars.extend(goal.vars)
    kept.coeffs.extend(goal.coeffs)
    kept.domain.extend([-(2**62), sum(c for v, c in zip(goal.vars, goal.coeffs, strict=True) if v in taken)])
    proto.ClearField("objective")
    columns = [i for i, variable in enumerate(proto.variables) if variable.name[:1].isdigit()]
    goal.vars.extend(columns)
    goal.coeffs.extend([-number(proto.variables[i].name) for i in columns])


def _preferred(text: Text, tables: Tables) -> list[Preferred]:
    """The number that each column adds to each preference: these are sums over layers."""
    parent = tables.parent(tables.first_batches)

    def number(value: Value, name: str) -> int:
        layer, attention, ffn = name.split("#")[0].split("/")
        own = next(x for x in tables.choices[int(layer)] if (x.attention, x.ffn) == (attention, ffn))
        layers = [*parent.layers[: int(layer)], own, *parent.layers[int(layer) + 1 :]]
        return int(value(replace(parent, layers=layers))) - int(value(parent))

    return [partial(number, value) for value in text.meaning.prefer]


def _once(model_text: str, limit_s: float) -> tuple[str, list[int], float, float | None]:
    """Status, variables that are true, wall seconds, seconds until the first answer."""
    from ortools.sat.python import cp_model

    class First(cp_model.CpSolverSolutionCallback):
        at: float | None = None

        def on_solution_callback(self) -> None:
            self.at = self.at or self.wall_time

    model = cp_model.CpModel()
    model.proto.parse_text_format(model_text)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.max_time_in_seconds = 1, limit_s
    solver.parameters.relative_gap_limit = solver.parameters.absolute_gap_limit = 0.0
    first, began = First(), time.monotonic()
    status = solver.solve(model, first)
    took_s = time.monotonic() - began
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    taken = [i for i, v in enumerate(solver.response_proto.solution) if v] if found else []
    return solver.status_name(status), taken, took_s, (first.at or took_s) if found else None


# ---------------------------------------------------------------- one program


def run(text: Text, folder: Path, limit_s: float, pzl: Path, startup: Path) -> dict[str, Any]:
    """Its record: times, statuses, the answer's layers and every fault. Where a time is missed it is measured again."""
    file = text.write(folder)
    compiled = process([pzl, "compile", file], folder, COMPILE_S)
    record: dict[str, Any] = {"name": text.name, "limit_s": limit_s, "faults": {}}
    if compiled.code:
        kind = "refused" if "error[" in compiled.out else "crashed"
        return record | {"faults": {kind: compiled.out[:300]}}
    for _ in range(2):
        record |= _measured(text, file, limit_s, pzl, startup)
        if not set(record["faults"]) & {*OF_TIME}:
            break
    return record


def _measured(text: Text, file: Path, limit_s: float, pzl: Path, startup: Path) -> dict[str, Any]:
    """One measurement of startup, ours and CP-SAT, in turn."""
    started = solve(pzl, startup, limit_s)
    ours = solve(pzl, file, limit_s)
    build = file.parent / "build"
    tables = Tables(text.world, json.loads((build / "costs" / "w.json").read_text("utf-8")))
    model, preferred = (build / "search" / "best.pb").read_bytes(), _preferred(text, tables)
    said = plain_cpsat(model, limit_s, *text.meaning.solutions, preferred)
    ours_s = max(0.0, ours.seconds - started.seconds)
    record = {
        "ours_s": round(ours_s, 3), "peak_mb": ours.peak_bytes // 10**6,
        "cpsat_s": round(said.seconds, 3), "cpsat": said.status,
    }  # fmt: skip
    try:
        (answer,) = json.loads(ours.out)
        status = answer["status"]
    except (ValueError, KeyError, TypeError):
        return record | {"status": "crashed", "faults": {"crashed": f"exit {ours.code}: {ours.out[-300:]}"}}
    layers = [[[*x.values()] for x in s["layers"]] for s in answer["solutions"]]
    judged = Judged(text, tables, answer, said)
    faults = {"wrong": "; ".join(judged.mistakes()), "worse": judged.worse()}
    faults |= dict(time_faults(status, ours_s, said, limit_s))
    faults |= {"large": f"{ours.peak_bytes / 1e9:.1f} GB"} if ours.peak_bytes > LARGE_BYTES else {}
    return record | {
        "status": status, "by": f"{answer['found_by']}, {answer['proved_by']}", "bound": answer["bound"],
        "objective": answer["objective"],
        "layers": layers, "faults": {k: v for k, v in faults.items() if v},
    }  # fmt: skip


def time_faults(status: str, ours_s: float, said: Said, limit_s: float) -> Iterator[tuple[str, str]]:
    """Targets that are missed beside CP-SAT."""
    proven, theirs = status in ("optimal", "infeasible"), said.status in ("OPTIMAL", "INFEASIBLE")
    if ours_s > limit_s + max(LATE_S, LATE_SHARE * limit_s):
        yield "late", f"{ours_s:.2f} s of {limit_s:g}"
    if theirs and not proven and said.seconds <= limit_s / 2:
        yield "unproven", f"CP-SAT proves it in {said.seconds:.2f} s"
    if status == "unknown" and said.first_s is not None and said.first_s <= limit_s / 2:
        yield "none", f"CP-SAT has an answer in {said.first_s:.2f} s"
    if theirs and ours_s > SLOWER * said.seconds + ALLOWED_S:
        yield "slow", f"{ours_s:.2f} s, CP-SAT {said.seconds:.2f} s"


@dataclass(frozen=True)
class Judged:
    """Both answers, evaluated from the tables by the meaning of the form."""

    text: Text
    tables: Tables
    answer: Mapping[str, Any]
    said: Said

    def ours(self) -> list[Child]:
        """The children of our answer."""
        found = []
        for each in self.answer["solutions"]:
            names = [(*x.values(),) for x in each["layers"]]
            batches = {
                s: int(each["metrics"].get(f"{s}.batch", b)) for s, b in self.tables.first_batches.items()
            }
            found.append(self.tables.child(names, batches | each.get("batches", {})))
        return found

    def theirs(self) -> list[Child]:
        """CP-SAT's, at the batches of ours."""
        ours = self.ours()
        return [self.tables.child(names, ours[0].batches if ours else None) for names in self.said.answers]

    def mistakes(self) -> Iterator[str]:
        """Requirements that an answer breaks, values and proofs that are false."""
        meaning, status = self.text.meaning, self.answer["status"]
        for child in self.ours():
            if not meaning.holds(child):
                yield "our answer breaks a requirement"
        for child in self.theirs():
            if not meaning.holds(child):
                yield "CP-SAT's answer to the exported model breaks a requirement"
        apart = meaning.solutions[1]
        for a, b in combinations(self.ours(), 2):
            if sum((x.attention, x.ffn) != (y.attention, y.ffn) for x, y in zip(a, b, strict=True)) < apart:
                yield f"two answers differ in less than {apart} layers"
        if status == "infeasible" and self.said.answers:
            yield "CP-SAT has an answer to what we call infeasible"
        if self.said.status == "INFEASIBLE" and self.answer["solutions"] and not self.said.answers:
            yield "we have an answer to what CP-SAT calls infeasible"
        for ours, theirs in self.pairs():
            if status == "optimal" and theirs < ours - TOLERANCE * abs(ours):
                yield f"we call {float(ours)} optimal, CP-SAT has {float(theirs)}"
            if self.said.status == "OPTIMAL" and ours < theirs - TOLERANCE * abs(ours):
                yield f"CP-SAT calls {float(theirs)} optimal, we have {float(ours)}"
        if meaning.goal == "minimize kl" and self.answer["solutions"]:
            best = self.ours()[0].kl
            if abs(Fraction(self.answer["objective"]) - best) > TOLERANCE * best:
                yield f"we call {float(best)} {self.answer['objective']}"
            if Fraction(self.answer["bound"]) > min([best, *(c.kl for c in self.theirs()[:1])]) * (
                1 + TOLERANCE
            ):
                yield f"a bound of {self.answer['bound']} is false"

    def pairs(self) -> list[tuple[Fraction, Fraction]]:
        """Our values beside CP-SAT's, answer by answer."""
        value = self.text.meaning.value
        return [
            (Fraction(value(a)), Fraction(value(b))) for a, b in zip(self.ours(), self.theirs(), strict=False)
        ]

    def worse(self) -> str:
        """The share by which our first answer is worse; empty if it is not."""
        for ours, theirs in self.pairs()[:1]:
            if ours > theirs + TOLERANCE * abs(ours):
                return f"{float(ours / theirs - 1):.2%}" if theirs else f"{float(ours)}"
        return ""
