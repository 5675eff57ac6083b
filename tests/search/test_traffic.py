"""Traffic as an exact requirement: random programs as text against every child at every number of running sequences."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from math import exp, factorial
from pathlib import Path
from random import Random

import pytest

from puzzledsl.base.units import parse_quantity
from puzzledsl.checker.check import check
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.metrics import filled
from puzzledsl.costs.roofline import fixed_line, sub_block_cost
from puzzledsl.costs.simulation import simulated
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import Program, RooflineHardware
from puzzledsl.ir.tables import Cost, CostTable, LayerAssignment, ScenarioCosts, ScoreTable
from puzzledsl.search.infeasible.verdicts import no_answer
from puzzledsl.search.solve import solve_search
from tests.cases import ALL, cases

ATTENTION, FFN = ("parent", "gqa1", "noop"), ("parent", "mlp96", "noop")
KL = {"parent": "0", "gqa1": ".3", "noop": ".7", "mlp96": ".2"}
LAYERS = 3
SECOND = 10**9


@dataclass(frozen=True)
class Traffic:
    """Traffic as a random program says it."""

    rate: Fraction
    prompt: int
    output: int
    most: int
    usd_per_s: Fraction


def poisson(mean: float) -> int:
    """The number that a Poisson variable exceeds in one case of 40."""
    return next(
        k for k in range(10**4) if sum(mean**i * exp(-mean) / factorial(i) for i in range(k + 1)) >= 39 / 40
    )


@dataclass(frozen=True)
class Load:
    """A child under traffic, by the definitions of docs/language.md: a prompt's time, and that of a step of 1, 2, … sequences."""

    traffic: Traffic
    prompt_ns: int
    steps_ns: tuple[int, ...]

    def requests_s(self, n: int) -> Fraction:
        """Seconds in which n requests end."""
        return Fraction(n * self.prompt_ns + self.traffic.output * self.steps_ns[n - 1], SECOND)

    def token_s(self, n: int) -> Fraction:
        return Fraction(
            self.steps_ns[n - 1] + Fraction((n - 1) * self.prompt_ns, self.traffic.output), SECOND
        )

    @property
    def least(self) -> int:
        """The least number of sequences that sustains the rate, else the most."""
        numbers = range(1, self.traffic.most + 1)
        return next((n for n in numbers if self.traffic.rate * self.requests_s(n) <= n), self.traffic.most)

    @property
    def late(self) -> int:
        """The least number of servers of an M/M/m queue of whose requests one in 40 finds all at work, else the most."""
        for n in range(1, self.traffic.most + 1):
            load = Fraction(-(-1000 * self.traffic.rate * self.requests_s(n) // 1), 1000)
            if load < n:
                waiting = load**n / factorial(n) * n / (n - load)
                others = sum((load**k / Fraction(factorial(k)) for k in range(n)), Fraction(0))
                if waiting / (others + waiting) <= Fraction(1, 40):
                    return n
        return self.traffic.most

    @property
    def is_bounded(self) -> bool:
        """True if percentiles have a bound at the most sequences."""
        n = self.late
        load = self.traffic.rate * self.requests_s(n)
        if n < self.traffic.most:
            return True
        load = Fraction(-(-1000 * load // 1), 1000)
        if load >= n:
            return False
        waiting = load**n / factorial(n) * n / (n - load)
        return (
            waiting <= (sum((load**k / Fraction(factorial(k)) for k in range(n)), Fraction(0)) + waiting) / 40
        )

    def metrics(self, memory: int) -> dict[str, Fraction]:
        n, m, most, traffic = self.least, self.late, self.traffic.most, self.traffic
        prompt_s = Fraction(self.prompt_ns, SECOND)
        rate = most / self.requests_s(most) if self.requests_s(most) else Fraction(0)
        return {
            "batch": Fraction(n),
            "tpot": self.token_s(n),
            "ttft": prompt_s + self.token_s(n) * 3 / 2,
            "p95_tpot": self.token_s(m),
            "p95_ttft": (2 + poisson(2 * m / traffic.output)) * prompt_s
            + Fraction(2 * self.steps_ns[m - 1], SECOND),
            "max_rate": rate,
            "utilisation": traffic.rate * self.requests_s(most) / most,
            "cost_per_mtok": 1_000_000 * traffic.usd_per_s * self.requests_s(most) / (most * traffic.output),
            "memory": Fraction(memory),
        }


@dataclass(frozen=True)
class Child:
    """One child with all its figures."""

    layers: tuple[LayerAssignment, ...]
    figures: Mapping[str, Fraction]
    is_bounded: bool


def every_child(costs: CostTable, traffic: Traffic) -> Iterator[Child]:
    """Every child of the space, its costs added up from the table at each number of sequences."""
    listed = costs.scenarios["busy"]
    assert [each.batch for each in listed] == list(range(1, traffic.most + 1))
    for names in product(product(ATTENTION, FFN), repeat=LAYERS):
        layers = tuple(LayerAssignment(attention=a, ffn=f) for a, f in names)
        parts = [[at.fixed, *(at.attention[i][a] for i, (a, _) in enumerate(names)),
                  *(at.ffn[i][f] for i, (_, f) in enumerate(names))] for at in listed]  # fmt: skip
        load = Load(
            traffic, sum(c.prefill_ns for c in parts[0]), tuple(sum(c.decode_ns for c in at) for at in parts)
        )
        memory = listed[0].reserve_bytes + sum(c.weights_bytes + c.kv_cache_bytes for c in parts[0])
        kl = sum(
            (Fraction(KL[name]) * (i + 2) / 2 for i, both in enumerate(names) for name in both), Fraction(0)
        )
        yield Child(layers, {**load.metrics(memory), "kl": kl}, load.is_bounded)


@dataclass(frozen=True)
class Question:
    """A random program as text, and the same by hand: its goal and its bounds, of which some are ratios of the parent's."""

    text: str
    traffic: Traffic
    goal: tuple[str, int]
    bounds: tuple[tuple[str, str, Fraction, bool], ...]


UNITS = {
    "tpot": "ns",
    "ttft": "ns",
    "p95_tpot": "ns",
    "p95_ttft": "ns",
    "max_rate": " req/s",
    "memory": "kB",
    "cost_per_mtok": "USD",
}
HEAD = """\
parent p = shape(family: llama, layers: 3, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = parent | gqa(kv_heads: 1) | noop, ffn = parent | mlp(width: 50%) | noop }
score kl of w = table("kl.csv")
"""


def program_text(rng: Random, traffic: Traffic, body: str) -> str:
    """A program with a random card. Memory is slow, so that the cache counts, and a step's share of the weights falls with n."""
    peak, band = rng.choice([5, 40, 400]), rng.choice([2, 20])
    card = f"memory = 80GB, reserve = 1kB, bandwidth = {band}GB/s, overhead = {rng.choice([0, 3, 40])}us, price = 3.6 USD/h"
    return (
        f"{HEAD}hardware g {{ {card}, peak {{ bf16 = {peak}GFLOP/s }} }}\n"
        f"scenario busy on g = traffic({traffic.rate} req/s, {traffic.prompt} -> {traffic.output}, at_most: {traffic.most})\n"
        f"search s of w {{\n{body}\n}}\n"
    )


def read(folder: Path, text: str) -> Program:
    path = folder / "program.pzl"
    path.write_text(text, "utf-8")
    found = check(path, {})
    assert found.program is not None, [f"{d!r} {d.help}" for d in found.diagnostics]
    return found.program


def scores() -> ScoreTable:
    of = [{name: float(Fraction(value) * (i + 2) / 2) for name, value in KL.items()} for i in range(LAYERS)]
    return ScoreTable(score="kl", metric="table", samples=0, attention=tuple(of), ffn=tuple(of))


def question(folder: Path, seed: int) -> Question:
    """A random program whose rate some children sustain and some do not, with bounds near what some child has."""
    rng = Random(seed)
    shape = {
        "prompt": rng.choice([4, 64, 300]),
        "output": rng.choice([1, 8, 100]),
        "most": rng.randint(1, 10),
    }
    first = Traffic(rate=Fraction(1), usd_per_s=Fraction(36, 36000), **shape)
    state = rng.getstate()
    probe = cost_table(read(folder, program_text(rng, first, "minimize busy.tpot")), "w")
    rates = sorted(
        child.figures["max_rate"] for child in every_child(probe, first) if child.figures["max_rate"]
    )
    rng.setstate(state)
    top = rates[int(len(rates) * rng.random())] * rng.choice([Fraction(1, 10), Fraction(1, 2), Fraction(1)])
    traffic = Traffic(Fraction(max(1, int(top))), first.prompt, first.output, first.most, first.usd_per_s)
    rng.setstate(state)
    costs = cost_table(read(folder, program_text(rng, traffic, "minimize busy.tpot")), "w")
    children = [*every_child(costs, traffic)]
    parent = children[0].figures
    names = [
        "tpot",
        "ttft",
        "p95_tpot",
        "p95_ttft",
        "max_rate",
        "utilisation",
        "memory",
        "cost_per_mtok",
        "batch",
        "kl",
    ]
    if traffic.most == 1:
        names.remove("batch")  # a constant
    bounds, lines = [], []
    for _ in range(rng.randint(0, 3)):
        name = rng.choice(names)
        near = rng.choice(children).figures[name]
        op = (
            rng.choice(["<=", "<="] if name != "max_rate" else [">=", "<="])
            if rng.random() < 0.8
            else rng.choice([">=", ">", "<"])
        )
        is_ratio = name not in ("batch", "kl") and parent[name] != 0 and rng.random() < 0.3
        value = near / parent[name] if is_ratio else near
        bound = Fraction(f"{float(value):.6g}")
        if name in ("memory", "batch"):
            bound = bound if is_ratio else Fraction(int(near))
        written = f"{float(bound):.12f}x" if is_ratio else with_unit(name, bound)
        bound = Fraction(f"{float(bound):.12f}") if is_ratio else bound
        bounds.append((name, op, bound, is_ratio))
        lines.append(f"  require {path(name)} {op} {written}")
    goal, sign = rng.choice(["kl", "kl", *names]), 1
    if goal == "max_rate" or rng.random() < 0.1:
        sign = -1
    body = "\n".join([f"  {'minimize' if sign > 0 else 'maximize'} {path(goal)}", *lines])
    rng.setstate(state)
    return Question(program_text(rng, traffic, body), traffic, (goal, sign), tuple(bounds))


def path(name: str) -> str:
    return name if name == "kl" else f"busy.{name}"


def with_unit(name: str, value: Fraction) -> str:
    unit = UNITS.get(name, "")
    if unit == "ns":
        return f"{float(value * 10**6):.9f}us"
    return f"{float(value / 1000):.3f}kB" if unit == "kB" else f"{float(value):.12f}{unit}"


def exact(name: str, value: Fraction) -> Fraction:
    """The number that `with_unit` writes."""
    return parse_quantity(with_unit(name, value)).value


COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def is_right(asked: Question, child: Child, parent: Child) -> bool:
    """True if the rate is sustained, wherever the search mentions the traffic, and the bounds hold."""
    late = any(name.startswith("p95") for name in (asked.goal[0], *(name for name, *_ in asked.bounds)))
    mentions = asked.goal[0] != "kl" or any(name != "kl" for name, *_ in asked.bounds)
    if (mentions and child.figures["utilisation"] > 1) or (late and not child.is_bounded):
        return False
    return all(
        COMPARE[op](child.figures[name], bound * parent.figures[name] if is_ratio else exact(name, bound))
        for name, op, bound, is_ratio in asked.bounds
    )


def best_of(asked: Question, costs: CostTable) -> tuple[Fraction, list[Child]] | None:
    """The best objective of all children, and the children that have it; None if none meets the bounds."""
    children = [*every_child(costs, asked.traffic)]
    right = [child for child in children if is_right(asked, child, children[0])]
    goal, sign = asked.goal
    if not right:
        return None
    best = min(sign * child.figures[goal] for child in right)
    return sign * best, [child for child in right if sign * child.figures[goal] == best]


@pytest.mark.states(
    "traffic.model", "traffic.full", "traffic.percentiles", "traffic.sustained", "traffic.parent"
)
@pytest.mark.drawn
def test_slice(tmp_path: Path) -> None:
    """The first of the random programs; the rest is slow."""
    outcomes = [answered_as_brute_force(tmp_path, seed) for seed in range(cases(24))]
    assert not ALL or {"optimal", "infeasible"} <= set(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_random_programs_are_answered_as_by_brute_force(tmp_path: Path, block: int) -> None:
    for seed in range(24 + 30 * block, 24 + 30 * (block + 1)):
        answered_as_brute_force(tmp_path, seed)


def answered_as_brute_force(folder: Path, seed: int) -> str:
    asked = question(folder, seed)
    program = read(folder, asked.text)
    costs = cost_table(program, "w")
    found, best = solve_search(program, "s", costs, {"kl": scores()}), best_of(asked, costs)
    if best is None:
        assert found.status == "infeasible", (seed, asked.text)
        problem = no_answer(program, found)
        assert problem is not None
        assert found.conflict, (seed, asked.text)
        return found.status
    objective, children = best
    assert found.status == "optimal" and found.objective == float(objective), (
        seed,
        asked.text,
        found.objective,
        float(objective),
    )
    (answer,) = found.solutions
    (same,) = [child for child in children if child.layers == answer.layers]
    for name, value in answer.metrics.items():
        scenario, _, metric = name.rpartition(".")
        if scenario and metric in same.figures:
            assert value == float(same.figures[metric]), (seed, name)
    return found.status


@pytest.mark.states("traffic.simulated")
def test_an_answer_is_simulated_by_a_seed(tmp_path: Path) -> None:
    traffic = Traffic(Fraction(50), 64, 8, 6, Fraction(0))
    program = read(tmp_path, program_text(Random(2), traffic, "minimize kl, require busy.tpot <= 1s"))
    costs = cost_table(program, "w")
    one, two = (solve_search(program, "s", costs, {"kl": scores()}).solutions[0] for _ in range(2))
    assert one == two
    named = program.scenarios["busy"].traffic
    assert named is not None
    served = simulated(costs.scenarios["busy"], one.layers, named)
    assert one.simulated == {f"busy.{name}": value for name, value in served.items()}
    assert served["p50_ttft"] <= served["p95_ttft"] and served["p50_tpot"] <= served["p95_tpot"]


@pytest.mark.states("traffic.measured")
def test_steps_between_measured_batches_lie_on_lines(tmp_path: Path) -> None:
    """Any times will do; but no step is faster with more sequences, and no sequence's share of a step is slower."""
    traffic = Traffic(Fraction(5), 100, 20, 12, Fraction(0))
    text = program_text(Random(1), traffic, "minimize busy.tpot")
    program = read(tmp_path, text)
    (first, *_) = cost_table(program, "w").scenarios["busy"]
    times = {1: 1000, 2: 1500, 4: 1400, 8: 3000, 12: 5000}
    line = [1000, 1500, 1450, 1400, 1800, 2200, 2600, 3000, 3500, 4000, 4500, 5000]

    def at(batch: int) -> ScenarioCosts:
        cost = Cost(
            params=0,
            weights_bytes=5,
            kv_cache_bytes=7 * batch,
            prefill_ns=600 * batch,
            decode_ns=times[batch],
        )
        own = {"batch": batch, "rate": None, "fixed": cost, "attention": (), "ffn": ()}
        return first.model_copy(update=own)

    table = CostTable(
        space="w",
        scenarios={"busy": tuple(map(at, times))},
        params_fixed=0,
        params_attention=(),
        params_ffn=(),
    )
    made = filled(program, table).scenarios["busy"]
    steps = [costs.fixed.decode_ns for costs in made]
    assert [costs.batch for costs in made] == list(range(1, 13)) and {costs.rate for costs in made} == {
        traffic.rate
    }
    assert all(before <= after for before, after in pairwise(steps))
    assert all(n * after <= (n + 1) * before for n, (before, after) in enumerate(pairwise(steps), start=1))
    assert steps[0] == 1000 and sum(steps) == pytest.approx(sum(line), rel=0.02)
    assert all(step == pytest.approx(own, rel=0.15) for step, own in zip(steps, line, strict=True))
    assert {(costs.fixed.prefill_ns, costs.fixed.kv_cache_bytes) for costs in made} == {(600, 84)}


def test_steps_are_those_of_the_roofline(tmp_path: Path) -> None:
    """At each number of sequences, to the nanosecond by which rounding may break that shares of a step never rise."""
    traffic = Traffic(Fraction(5), 100, 20, 40, Fraction(0))
    program = read(tmp_path, program_text(Random(1), traffic, "minimize busy.tpot"))
    hardware, shape = program.hardware["g"].spec, program.parents["p"].shape
    assert isinstance(hardware, RooflineHardware)
    for costs in cost_table(program, "w").scenarios["busy"]:
        work = Workload(costs.batch, 100, 20)
        for alternative in program.spaces["w"].layers[0].attention:
            plain, own = (
                sub_block_cost(hardware, shape.at(0), alternative, work),
                costs.attention[0][alternative.name],
            )
            assert plain.decode_ns <= own.decode_ns <= plain.decode_ns + 1
            assert own.weights_bytes == plain.weights_bytes
        alone = fixed_line(hardware, shape).at(1)
        assert costs.fixed.prefill_ns == alone.prefill_ns
