"""Traffic as an exact requirement: random programs as text against every child at every number of running sequences."""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, product
from math import ceil, exp, factorial
from pathlib import Path
from random import Random

import pytest

from puzzledsl.base.units import parse_quantity
from puzzledsl.checker.check import check
from puzzledsl.costs.metrics import filled
from puzzledsl.costs.simulation import simulated
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import Program
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
    usd_per_s: Fraction = Fraction(36, 36000)


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
        prompts = Fraction((n - 1) * self.prompt_ns, self.traffic.output)
        return Fraction(self.steps_ns[n - 1] + prompts, SECOND)

    def first(self, is_enough: Callable[[int], bool]) -> int:
        """The least number of sequences that is enough, else the most."""
        return next(filter(is_enough, range(1, self.traffic.most + 1)), self.traffic.most)

    def sustains(self, n: int) -> bool:
        return self.traffic.rate * self.requests_s(n) <= n

    def is_prompt(self, n: int) -> bool:
        """True if of the requests of an M/M/n queue at most one in 40 finds all servers at work."""
        load = Fraction(ceil(1000 * self.traffic.rate * self.requests_s(n)), 1000)
        if load >= n:
            return False
        waiting = load**n / factorial(n) * n / (n - load)
        others = sum((load**k / Fraction(factorial(k)) for k in range(n)), Fraction(0))
        return waiting / (others + waiting) <= Fraction(1, 40)

    def metrics(self, memory: int) -> dict[str, Fraction]:
        n, m, most, traffic = (
            self.first(self.sustains),
            self.first(self.is_prompt),
            self.traffic.most,
            self.traffic,
        )
        prompt_s, all_s = Fraction(self.prompt_ns, SECOND), self.requests_s(most)
        queued_s = (2 + poisson(2 * m / traffic.output)) * prompt_s
        return {
            "batch": Fraction(n),
            "tpot": self.token_s(n),
            "ttft": prompt_s + self.token_s(n) * 3 / 2,
            "p95_tpot": self.token_s(m),
            "p95_ttft": queued_s + Fraction(2 * self.steps_ns[m - 1], SECOND),
            "max_rate": most / all_s if all_s else Fraction(0),
            "utilisation": traffic.rate * all_s / most,
            "cost_per_mtok": 1_000_000 * traffic.usd_per_s * all_s / (most * traffic.output),
            "memory": Fraction(memory),
        }


@dataclass(frozen=True)
class Child:
    """One child with all its figures. `is_bounded`: percentiles have a bound at the most sequences."""

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
        steps = tuple(sum(c.decode_ns for c in at) for at in parts)
        load = Load(traffic, sum(c.prefill_ns for c in parts[0]), steps)
        memory = listed[0].reserve_bytes + sum(c.weights_bytes + c.kv_cache_bytes for c in parts[0])
        losses = [Fraction(KL[name]) * (i + 2) / 2 for i, both in enumerate(names) for name in both]
        bounded = any(map(load.is_prompt, range(1, traffic.most + 1)))
        yield Child(layers, {**load.metrics(memory), "kl": sum(losses, Fraction(0))}, bounded)


@dataclass(frozen=True)
class Question:
    """A random program as text, and the same by hand: its goal and its bounds, of which some are ratios of the parent's."""

    text: str
    traffic: Traffic
    goal: tuple[str, int]
    bounds: tuple[tuple[str, str, Fraction, bool], ...]


FIGURES = "tpot ttft p95_tpot p95_ttft max_rate utilisation memory cost_per_mtok batch kl".split()
UNITS = {"max_rate": " req/s", "cost_per_mtok": "USD"}
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


def made(folder: Path, traffic: Traffic, seed: int) -> tuple[Program, CostTable]:
    """A program that asks for nothing but speed, and its costs."""
    program = read(folder, program_text(Random(seed), traffic, "minimize busy.tpot"))
    return program, cost_table(program, "w")


def scores() -> ScoreTable:
    of = [{name: float(Fraction(value) * (i + 2) / 2) for name, value in KL.items()} for i in range(LAYERS)]
    return ScoreTable(score="kl", metric="table", samples=0, attention=tuple(of), ffn=tuple(of))


def question(folder: Path, seed: int) -> Question:
    """A random program whose rate some children sustain and some do not, with bounds near what some child has."""
    rng = Random(seed)
    sizes = rng.choice([4, 64, 300]), rng.choice([1, 8, 100]), rng.randint(1, 10)
    first = Traffic(Fraction(1), *sizes)
    every = every_child(made(folder, first, seed)[1], first)
    rates = sorted(child.figures["max_rate"] for child in every if child.figures["max_rate"])
    top = rng.choice(rates) * rng.choice([Fraction(1, 10), Fraction(1, 2), Fraction(1)])
    traffic = replace(first, rate=Fraction(max(1, int(top))))
    children = [*every_child(made(folder, traffic, seed)[1], traffic)]
    parent = children[0].figures
    names = [name for name in FIGURES if traffic.most > 1 or name != "batch"]  # which is a constant then
    bounds, lines = [], []
    for _ in range(rng.randint(0, 3)):
        name = rng.choice(names)
        near = rng.choice(children).figures[name]
        usual = [">=", "<="] if name == "max_rate" else ["<="]
        op = rng.choice(usual if rng.random() < 0.8 else [">=", ">", "<"])
        is_ratio = name not in ("batch", "kl") and parent[name] != 0 and rng.random() < 0.3
        bound = Fraction(f"{float(near / parent[name] if is_ratio else near):.6g}")
        if name in ("memory", "batch") and not is_ratio:
            bound = Fraction(int(near))
        written = f"{float(bound):.12f}x" if is_ratio else with_unit(name, bound)
        bounds.append((name, op, Fraction(f"{float(bound):.12f}") if is_ratio else bound, is_ratio))
        lines.append(f"  require {path(name)} {op} {written}")
    goal = rng.choice(["kl", "kl", *names])
    sign = -1 if goal == "max_rate" or rng.random() < 0.1 else 1
    body = "\n".join([f"  {'minimize' if sign > 0 else 'maximize'} {path(goal)}", *lines])
    return Question(program_text(Random(seed), traffic, body), traffic, (goal, sign), tuple(bounds))


def path(name: str) -> str:
    return name if name == "kl" else f"busy.{name}"


def with_unit(name: str, value: Fraction) -> str:
    if name.endswith(("tpot", "ttft")):
        return f"{float(value * 10**6):.9f}us"
    return f"{float(value / 1000):.3f}kB" if name == "memory" else f"{float(value):.12f}{UNITS.get(name, '')}"


def exact(name: str, value: Fraction) -> Fraction:
    """The number that `with_unit` writes."""
    return parse_quantity(with_unit(name, value)).value


COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def is_right(asked: Question, child: Child, parent: Child) -> bool:
    """True if the rate is sustained, wherever the search mentions the traffic, and the bounds hold."""
    names = {asked.goal[0], *(name for name, *_ in asked.bounds)}
    late = any(name.startswith("p95") for name in names)
    if (names != {"kl"} and child.figures["utilisation"] > 1) or (late and not child.is_bounded):
        return False
    return all(
        COMPARE[op](child.figures[name], bound * parent.figures[name] if is_ratio else exact(name, bound))
        for name, op, bound, is_ratio in asked.bounds
    )


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
    program, (goal, sign) = read(folder, asked.text), asked.goal
    costs = cost_table(program, "w")
    found = solve_search(program, "s", costs, {"kl": scores()})
    children = [*every_child(costs, asked.traffic)]
    right = [child for child in children if is_right(asked, child, children[0])]
    if not right:
        assert found.status == "infeasible" and found.conflict, (seed, asked.text)
        assert no_answer(program, found) is not None
        return found.status
    best = sign * min(sign * child.figures[goal] for child in right)
    assert (found.status, found.objective) == ("optimal", float(best)), (seed, asked.text)
    (answer,) = found.solutions
    (same,) = [child for child in right if child.layers == answer.layers and child.figures[goal] == best]
    for name, value in answer.metrics.items():
        scenario, _, metric = name.rpartition(".")
        if scenario and metric in same.figures:
            assert value == float(same.figures[metric]), (seed, name)
    return found.status


@pytest.mark.states("traffic.simulated")
def test_an_answer_is_simulated_by_a_seed(tmp_path: Path) -> None:
    traffic = Traffic(Fraction(50), 64, 8, 6)
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
    traffic = Traffic(Fraction(5), 100, 20, 12)
    program, costs = made(tmp_path, traffic, 1)
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
        return costs.scenarios["busy"][0].model_copy(update=own)

    table = costs.model_copy(
        update={"scenarios": {"busy": tuple(map(at, times))}, "params_attention": (), "params_ffn": ()}
    )
    found = filled(program, table).scenarios["busy"]
    steps = [each.fixed.decode_ns for each in found]
    assert [each.batch for each in found] == list(range(1, 13))
    assert {each.rate for each in found} == {traffic.rate}
    assert all(before <= after for before, after in pairwise(steps))
    assert all(n * after <= (n + 1) * before for n, (before, after) in enumerate(pairwise(steps), start=1))
    assert steps[0] == 1000 and sum(steps) == pytest.approx(sum(line), rel=0.02)
    assert steps == [pytest.approx(own, rel=0.15) for own in line]
    assert {(each.fixed.prefill_ns, each.fixed.kv_cache_bytes) for each in found} == {(600, 84)}
