"""Simulated continuous batching: against a slow engine that goes step by step, and against the fluid and its bounds."""

from fractions import Fraction
from random import Random

import pytest

from puzzledsl.base.queueing import LATE, most_load
from puzzledsl.costs.metrics import pace_of, traffic_metrics
from puzzledsl.costs.simulation import Engine, Latency, Request, arrivals, summary
from puzzledsl.ir.nodes import Traffic
from puzzledsl.ir.tables import Cost, ScenarioCosts
from tests.costs.cases import HERE


def arriving(
    rate: float, most: int, tokens: tuple[int, int], number: int, seed: int, *lengths
) -> list[Request]:
    traffic = Traffic(rate=Fraction(rate), at_most=most, requests=lengths, where=HERE)
    return arrivals(traffic, tokens, number, seed)


def step_by_step(engine: Engine, requests: list[Request]) -> list[Latency]:
    """The same engine, slowly: one step at a time."""
    waiting, running, now, found = [*range(len(requests))], dict[int, int](), 0, dict[int, Latency]()
    first: dict[int, int] = {}
    while waiting or running:
        if not running:
            now = max(now, requests[waiting[0]].arrival_ns)
        old = len(running)
        new = [n for n in waiting if requests[n].arrival_ns <= now][: len(engine.steps_ns) - old]
        step = engine.steps_ns[old - 1] if old else 0
        prompts = sum(int(requests[n].prompt * engine.prompt_token_ns) for n in new)
        together = max(step, prompts + int(old * engine.prompt_token_ns))
        now += together if new and engine.joined else step + prompts
        running = {n: tokens - 1 for n, tokens in running.items()}
        for n in new:
            waiting.remove(n)
            running[n], first[n] = requests[n].output - 1, now
        for n in [n for n, tokens in running.items() if tokens == 0]:
            del running[n]
            each = (now - first[n]) / max(requests[n].output - 1, 1)
            found[n] = Latency((first[n] - requests[n].arrival_ns) / 10**9, each / 10**9)
    return [found[n] for n in range(len(requests))]


def an_engine(rng: Random, most: int, *, joined: bool = False) -> Engine:
    start, each = rng.choice([1, 5, 20]) * 10**6, rng.random() * rng.choice([0.01, 0.1, 0.3])
    steps = tuple(int(start * (1 + each * n)) for n in range(1, most + 1))
    prompt = Fraction(int(start * rng.choice([0.3, 1, 3, 10]) * rng.random()), 16)
    return Engine(prompt, steps, joined=joined)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_slow_engine(seed: int, joined: bool) -> None:
    rng = Random(seed)
    engine = an_engine(rng, rng.randint(1, 9), joined=joined)
    lengths = [(rng.randint(1, 64), rng.randint(1, 40)) for _ in range(5)]
    rate = rng.choice([1, 20, 200])
    one, two = (arriving(rate, 9, (16, 8), 200, seed, *lengths) for _ in range(2))
    assert one == two
    assert engine.serve(one) == step_by_step(engine, one)


def costs_of(
    engine: Engine, n: int, rate: Fraction, output: int, load: str = ""
) -> tuple[ScenarioCosts, Cost]:
    times = {"prefill_ns": int(engine.prompt_token_ns * 16), "decode_ns": engine.steps_ns[n - 1]}
    cost = Cost(params=1, weights_bytes=1, kv_cache_bytes=1, **times)
    sizes = {"scenario": "s", "batch": n, "prompt": 16, "output": output}
    return ScenarioCosts(**sizes, fixed=cost, attention=(), ffn=(), rate=rate, load=load), cost


def figure(engine: Engine, n: int, rate: Fraction, output: int, name: str) -> float:
    at, cost = costs_of(engine, n, rate, output)
    of, unit = traffic_metrics(at)[name]
    return float(of(cost) * unit)


def under(engine: Engine, rate: Fraction, output: int, load: str) -> int:
    """The least number of sequences that sustains a rate, or that few requests find running."""
    for n in range(1, len(engine.steps_ns) + 1):
        at, cost = costs_of(engine, n, rate, output, load)
        if pace_of(at).of(cost) <= pace_of(at).limit:
            return n
    return len(engine.steps_ns)


def test_the_bounds_hold_and_the_fluid_is_near() -> None:
    """At any rate for which Erlang's formula bounds the sequences, up to the largest; `tpot` of the fluid is near."""
    errors = []
    for seed in range(24):
        rng = Random(seed)
        most, output = rng.choice([4, 8, 16, 32, 64]), rng.choice([16, 64, 256])
        engine = an_engine(rng, most)
        at, cost = costs_of(engine, most, Fraction(1), output)
        top = most_load(most) * 10**9 / pace_of(at).of(cost)
        rate = top * rng.choice([Fraction(1, 5), Fraction(3, 5), Fraction(9, 10), Fraction(1)])
        n, m = (under(engine, rate, output, load) for load in ("", "p95"))
        assert n <= m
        requests = arriving(float(rate), most, (16, output), 4000, seed)
        served = summary(engine.serve(requests)[400:])
        assert served["p95_ttft"] <= figure(engine, m, rate, output, "p95_ttft")
        assert served["p95_tpot"] <= 1.03 * figure(engine, m, rate, output, "p95_tpot")
        errors.append(figure(engine, n, rate, output, "tpot") / served["tpot"] - 1)
    assert max(errors) <= 0.05 and sum(map(abs, errors)) / 24 <= 0.1


@pytest.mark.parametrize("servers", [1, 2, 5, 40])
def test_erlangs_load_is_the_largest_of_which_few_wait(servers: int) -> None:
    def waiting(load: Fraction) -> Fraction:
        term, before = Fraction(1), Fraction(0)
        for k in range(1, servers + 1):
            before, term = before + term, term * load / k
        term *= servers / (servers - load)
        return term / (before + term)

    load = most_load(servers)
    assert waiting(load) <= Fraction(1, LATE)
    assert load + Fraction(1, 1000) >= servers or waiting(load + Fraction(1, 1000)) > Fraction(1, LATE)
