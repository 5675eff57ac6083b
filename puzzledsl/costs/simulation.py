"""Simulation of continuous batching, step by step: latencies of requests that arrive at given or at random (Poisson) times.

An engine runs a limited number of sequences. Before each step it starts waiting requests, oldest first; their prompts pass with
one token of each running sequence, and give their first tokens. Such a step takes the time of the prompts plus that of a decode
step; in an engine that joins them, the time of a prompt of all those tokens, but no less than the decode step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from random import Random
from statistics import fmean, quantiles
from typing import Self

from puzzledsl.base.frozen import Record
from puzzledsl.costs.metrics import NS_PER_S, chosen_costs
from puzzledsl.ir.nodes import Program, Traffic
from puzzledsl.ir.runtimes import is_joined
from puzzledsl.ir.tables import Assignment, ScenarioCosts

REQUESTS, WARM_UP = 2000, 200
"""Requests of a simulation; the first WARM_UP, before the engine has its usual load, are not counted."""
SEED = 0


class Request(Record):
    """One request: when it arrives, and its tokens."""

    arrival_ns: int
    prompt: int
    output: int


class Latency(Record):
    """Times of one request in seconds: to its first token, and the mean for each later token (0 if there is none)."""

    ttft_s: float
    tpot_s: float


class Engine(Record):
    """A model's time for a prompt token, and for a decode step of 1, 2, … sequences. `joined`: prompts and tokens pass as one."""

    prompt_token_ns: Fraction
    steps_ns: tuple[int, ...]
    joined: bool = False

    @classmethod
    def of(
        cls, listed: Sequence[ScenarioCosts], layers: Sequence[Assignment], *, joined: bool = False
    ) -> Self:
        """Return the engine for a model's `layers`; `listed` has a scenario's costs at 1, 2, … running sequences."""
        prompt_ns = sum(cost.prefill_ns for cost in chosen_costs(listed[0], layers))
        steps = (sum(cost.decode_ns for cost in chosen_costs(costs, layers)) for costs in listed)
        return cls(Fraction(prompt_ns, listed[0].prompt), tuple(steps), joined)

    def at_pace(self, prompt: float, token: float) -> Engine:
        """Return the engine on another machine: its prompts take `prompt` times as long, its decode steps `token` times."""
        steps = (round(step * token) for step in self.steps_ns)
        return Engine(self.prompt_token_ns * Fraction(prompt), tuple(steps), self.joined)

    def serve(self, requests: Sequence[Request]) -> list[Latency]:
        """Return the latency of each request, in the order given. `requests` must be sorted by arrival."""
        waiting, now, found = deque(enumerate(requests)), 0, dict[int, Latency]()
        left = dict[int, int]()  # tokens to come of running requests
        first = dict[int, int]()  # and the times of their first tokens
        while waiting or left:
            if not left:
                now = max(now, waiting[0][1].arrival_ns)
            new = list[tuple[int, Request]]()
            while waiting and waiting[0][1].arrival_ns <= now and len(left) + len(new) < len(self.steps_ns):
                new.append(waiting.popleft())
            step = self.steps_ns[len(left) - 1] if left else 0
            steps = 1
            if not new:  # nothing changes before the first of them ends or another arrives
                steps = min(left.values())
                if waiting and len(left) < len(self.steps_ns) and step:
                    steps = max(1, min(steps, -(-(waiting[0][1].arrival_ns - now) // step)))
            prompts = sum(int(request.prompt * self.prompt_token_ns) for _, request in new)
            if new and self.joined:
                now += max(step, prompts + int(len(left) * self.prompt_token_ns))
            else:
                now += steps * step + prompts
            left = {number: tokens - steps for number, tokens in left.items()}
            for number, request in new:
                left[number], first[number] = request.output - 1, now
            for number in [number for number, tokens in left.items() if not tokens]:
                request, begun = requests[number], first.pop(number)
                each = (now - begun) / max(request.output - 1, 1)
                found[number] = Latency((begun - request.arrival_ns) / NS_PER_S, each / NS_PER_S)
                del left[number]
        return [found[number] for number in range(len(requests))]


def arrivals(traffic: Traffic, tokens: tuple[int, int], number: int, seed: int) -> list[Request]:
    """Return `number` random requests; their lengths are drawn from the traffic's, or all are `tokens` (prompt, output)."""
    rng, now, found = Random(seed), 0.0, list[Request]()
    for _ in range(number):
        now += rng.expovariate(float(traffic.rate))
        found.append(Request(int(now * NS_PER_S), *rng.choice(traffic.requests or (tokens,))))
    return found


def summary(latencies: Sequence[Latency]) -> dict[str, float]:
    """Return mean, median and 95th percentile in seconds: `ttft`, `p50_ttft`, `p95_ttft`, and the same of `tpot`."""
    found: dict[str, float] = {}
    for name in ("ttft", "tpot"):
        times = [getattr(latency, f"{name}_s") for latency in latencies]
        cuts = quantiles(times, n=20, method="inclusive") if len(times) > 1 else times * 19
        found |= {name: fmean(times), f"p50_{name}": cuts[9], f"p95_{name}": cuts[18]}
    return found


def simulated(
    listed: Sequence[ScenarioCosts],
    layers: Sequence[Assignment],
    traffic: Traffic,
    requests: int = REQUESTS,
    warm_up: int = WARM_UP,
    *,
    joined: bool = False,
) -> dict[str, float]:
    """Return the `summary` of simulated traffic without the first `warm_up` requests; `listed`: costs at 1, 2, … sequences."""
    tokens = listed[0].prompt, listed[0].output
    served = Engine.of(listed, layers, joined=joined).serve(arrivals(traffic, tokens, requests, SEED))
    return summary(served[warm_up:])


def simulations(
    scenarios: Mapping[str, Sequence[ScenarioCosts]], program: Program, layers: Sequence[Assignment]
) -> dict[str, float]:
    """Return a model's simulated latencies in seconds, such as `busy.p95_ttft`, in each scenario under traffic that has costs."""
    return {
        f"{name}.{metric}": value
        for name, here in program.scenarios.items()
        if here.traffic is not None and scenarios.get(name)
        for metric, value in simulated(
            scenarios[name], layers, here.traffic, joined=is_joined(program.hardware[here.hardware])
        ).items()
    }
