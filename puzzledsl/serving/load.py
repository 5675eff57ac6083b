"""A model under real load in its engine, and the speed of parent and child in turn, each in its own process.

A client sends requests to a server of the engine when they arrive and notes when tokens come. It speaks the completions
protocol that llama-server and vLLM share, each answer as a stream of events. Arrivals and lengths are drawn by a seed, so that
the simulation can be given the very same.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from http.client import HTTPConnection, HTTPException
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Literal, cast

from puzzledsl.base.files import scratch
from puzzledsl.base.progress import Progress
from puzzledsl.costs.metrics import own_costs, whole_metrics
from puzzledsl.costs.simulation import Engine, Latency, Request, arrivals, summary
from puzzledsl.export.engines.ask import environment, llama_library, python_of
from puzzledsl.ir.measured_engines import ENGINES
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Program
from puzzledsl.ir.tables import (
    PARENT,
    Assignment,
    EngineName,
    LoadCheck,
    LoadRun,
    ScenarioCosts,
    ends_of_child,
    layers_of_child,
)
from puzzledsl.measure.whole import Samples, Workload
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.serving.clock import SPARE, Bed, in_turn, write_blank, write_model

LOADING_S = 600
"""Seconds that a server may take to load a model."""
PATIENCE = 4
"""A run ends after so many times the seconds in which its requests arrive, and as many as a load takes at least."""
LEAST_S = 60
LEAST_REQUESTS = 10
LONE = 4
"""Lone requests before and behind those of a run, which tell how fast the machine is at the time."""
NS_PER_S = 10**9
FIRST_TOKEN, TOKENS = 100, 1000
"""Prompts are drawn from so many tokens, from the first on: no vocabulary's special ones."""


class LoadFailed(Exception):
    """A server did not start, or did not answer in time. The message is the reason."""


def server_command(engine: str) -> str | None:
    """Return the command that serves `{model}` at `{port}`, `{most}` sequences of `{context}` tokens; None if there is none."""
    if engine == "llama_cpp":
        library = llama_library()
        server = None if library is None else library.parent.parent / "bin" / "llama-server"
        options = "-m {model} --port {port} -np {most} -c {all} -t {threads} -tb {threads} --no-webui"
        return None if server is None or not server.is_file() else f"{shlex.quote(str(server))} {options}"
    python = python_of("vllm") if engine == "vllm" else None
    options = "serve {model} --port {port} --max-num-seqs {most} --max-model-len {context} --served-model-name model"
    return None if python is None else f"{shlex.quote(str(python.parent / 'vllm'))} {options}"


@dataclass(frozen=True, slots=True)
class Server:
    """A model that is served at a port of this machine."""

    port: int

    def serve(self, requests: Sequence[Request], seconds: float) -> list[Latency]:
        """Send requests when they arrive. Return their latencies. Raises LoadFailed: one is not answered within `seconds`."""
        found: dict[int, Latency] = {}
        reasons: list[str] = []
        begun = time.monotonic()

        def send(number: int, request: Request) -> None:
            try:
                found[number] = self.answered(request, number, begun + request.arrival_ns / NS_PER_S)
            except (OSError, HTTPException, ValueError) as error:
                reasons.append(f"a request failed: {error}")

        threads = list[threading.Thread]()
        for number, request in enumerate(requests):
            time.sleep(max(0.0, begun + request.arrival_ns / NS_PER_S - time.monotonic()))
            threads.append(threading.Thread(target=send, args=(number, request), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(max(0.0, begun + seconds - time.monotonic()))
        if reasons:
            raise LoadFailed(reasons[0])
        if len(found) < len(requests):
            raise LoadFailed(
                f"{len(requests) - len(found)} of {len(requests)} requests unanswered after {seconds:.0f} s"
            )
        return [found[number] for number in range(len(requests))]

    def answered(self, request: Request, seed: int, arrival: float) -> Latency:
        """Send one request and read its stream. Raises OSError, HTTPException, ValueError."""
        rng = Random(seed)
        prompt = [rng.randrange(FIRST_TOKEN, FIRST_TOKEN + TOKENS) for _ in range(request.prompt)]
        asked = {"model": "model", "prompt": prompt, "max_tokens": request.output, "stream": True}
        asked |= {"temperature": 0, "ignore_eos": True, "cache_prompt": False}
        connection = HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(
                "POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status} {answer.read(200)!r}")
            times = [time.monotonic() for line in answer if line.startswith(b"data: {")]
        finally:
            connection.close()
        if not times:
            raise ValueError("an answer without a token")
        each = (times[-1] - times[0]) / max(request.output - 1, 1)
        return Latency(times[0] - arrival, each)


@contextmanager
def served(command: str, model: Path, most: int, context: int, threads: int) -> Iterator[Server]:
    """Serve a model for the time of the context. Raises LoadFailed: a server that does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sizes = {"most": most, "context": context, "all": most * context, "threads": threads}
    words = [word.format(model=model, port=port, **sizes) for word in shlex.split(command)]
    with scratch("load") as folder, (folder / "log").open("w+b") as log:
        variables = {**os.environ, **environment("llama_cpp", threads, str(folder))}
        try:
            process = subprocess.Popen(words, stdout=log, stderr=log, env=variables, start_new_session=True)
        except OSError as error:
            raise LoadFailed(f"{words[0]}: {error.strerror}") from None
        try:
            _wait(process, port, log)
            yield Server(port)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Any) -> None:
    """Wait until a server has loaded its model. Raises LoadFailed."""
    end = time.monotonic() + LOADING_S
    while time.monotonic() < end:
        if (code := process.poll()) is not None:
            log.seek(0)
            lines = [
                line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()
            ]
            raise LoadFailed(
                f"the server ended with exit code {code}: {(lines or ['it said nothing'])[-1][-300:]}"
            )
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(0.05)
    raise LoadFailed(f"the model was not loaded within {LOADING_S} s")


def figures(requests: Sequence[Request], latencies: Sequence[Latency]) -> dict[str, float]:
    """Return what `simulation.summary` does, and the rate: requests that ended a second."""
    ends = [
        request.arrival_ns / NS_PER_S + latency.ttft_s + latency.tpot_s * (request.output - 1)
        for request, latency in zip(requests, latencies, strict=True)
    ]
    return {"rate": len(ends) / max(ends), **summary(latencies)}


def patience(requests: Sequence[Request], predicted: Mapping[str, float]) -> float:
    """Return the seconds after which requests that are unanswered are given up."""
    expected = max(requests[-1].arrival_ns / NS_PER_S, len(requests) / predicted["rate"])
    return max(LEAST_S, PATIENCE * expected)


def paces(server: Server, engine: Engine, alone: Request) -> list[tuple[float, float]]:
    """Return how many times as long as in the engine's costs a prompt and a token of each lone request take."""
    expected = engine.serve([alone])[0]
    found = [server.serve([alone], LEAST_S)[0] for _ in range(LONE)]
    return [(each.ttft_s / expected.ttft_s, each.tpot_s / (expected.tpot_s or 1)) for each in found]


@dataclass(frozen=True)
class LoadBench:
    """Inputs of a check under load: costs of the scenario at each number of sequences, and the command of a server."""

    program: Program
    search: str
    scenario: str
    listed: Sequence[ScenarioCosts]
    child: Sequence[Assignment]
    parent_dir: Path
    command: str
    seconds: float

    def check(self, shares: Sequence[float], seeds: Sequence[int], progress: Progress) -> LoadCheck:
        """Return how each model is served at shares of the rate that it sustains. Raises LoadFailed, DiagnosticError."""
        scenario = self.program.scenarios[self.scenario]
        assert scenario.traffic is not None
        spec = self.program.hardware[scenario.hardware].spec
        assert isinstance(spec, MeasuredHardware)
        most, longest = (
            scenario.traffic.at_most,
            max(scenario.traffic.requests or ((scenario.prompt, scenario.output),), key=sum),
        )
        threads, runs = spec.threads or len(os.sched_getaffinity(0)), list[LoadRun]()
        parent = [PARENT] * len(layers_of_child(self.child))
        models: list[tuple[Literal["parent", "child"], Sequence[Assignment]]] = [
            ("parent", parent),
            ("child", self.child),
        ]
        progress.start(f"load of {self.search}", len(models) * len(shares) * len(seeds))
        for model, layers in models:
            top = whole_metrics(self.listed, layers, own_costs(self.listed, layers))["max_rate"]
            with scratch("model") as folder:
                path = self._written(layers, spec, folder)
                with served(self.command, path, most, sum(longest) + SPARE, threads) as server:
                    engine, alone = Engine.of(self.listed, layers), Request(0, *longest)
                    server.serve([alone] * min(2, most), LEAST_S)
                    before = paces(server, engine, alone)
                    for share, seed in product(shares, seeds):
                        requests = self._requests(float(top) * share, seed)
                        expected = figures(requests, engine.serve(requests))
                        measured = figures(requests, server.serve(requests, patience(requests, expected)))
                        after = paces(server, engine, alone)
                        prompt, token = (fmean(each) for each in zip(*before, *after, strict=True))
                        predicted = figures(requests, engine.at_pace(prompt, token).serve(requests))
                        before = after
                        runs.append(
                            LoadRun(
                                model=model,
                                asked=float(top) * share,
                                seed=seed,
                                requests=len(requests),
                                prompt_pace=prompt,
                                token_pace=token,
                                predicted=predicted,
                                measured=measured,
                            )
                        )
                        progress.advance(1)
        return LoadCheck(
            search=self.search,
            scenario=self.scenario,
            engine=ENGINES[spec.engine].title,
            at_most=most,
            runs=tuple(runs),
        )

    def _requests(self, rate: float, seed: int) -> list[Request]:
        """Return the requests of a run."""
        scenario = self.program.scenarios[self.scenario]
        assert scenario.traffic is not None
        traffic = scenario.traffic.model_copy(update={"rate": Fraction(rate)})
        number = max(LEAST_REQUESTS, round(rate * self.seconds))
        return arrivals(traffic, (scenario.prompt, scenario.output), number, seed)

    def _written(self, layers: Sequence[Assignment], spec: MeasuredHardware, folder: Path) -> Path:
        """Write a model of these layers for the engine, of random weights: times depend on no weight's value."""
        space = self.program.spaces[self.program.searches[self.search].space]
        shape = self.program.parents[space.parent].shape
        chosen = []
        for choice, layer in zip(layers_of_child(layers), space.layers, strict=True):
            attention, ffn = layer.by_name()
            chosen.append((attention[choice.attention], ffn[choice.ffn]))
        ends = ends_of_child(layers).name
        return write_blank(
            self.parent_dir, shape, chosen, ends, cast(EngineName, spec.engine), folder, spec.dtype
        )


def time_in_engine(
    hardware: Hardware, workload: Workload, models: Sequence[Path], turns: int
) -> list[Samples]:
    """Time the models of directories in turn. Raises DiagnosticError: EngineAbsent, EngineFailed, what cannot be exported."""
    bed = Bed.of(hardware)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch("speed"))
        sessions = []
        for index, directory in enumerate(models):
            place = folder / str(index)
            place.mkdir()
            path = write_model(directory, bed.name, place, bed.spec.dtype)
            shape = shape_of(load_config(directory))
            sessions.append(stack.enter_context(bed.load(path, workload, shape, f"`{directory.name}`")))
        return in_turn(sessions, workload, turns)
