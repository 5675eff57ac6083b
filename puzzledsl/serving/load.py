"""A model under real load in its engine, and the speed of parent and child in turn, each in its own process.

A client sends requests to a server of the engine when they arrive and notes when tokens come. It speaks the completions
protocol that llama-server and vLLM share, each answer as a stream of events. Arrivals and lengths are drawn by a seed, so that
the simulation can be given the very same.
"""

import ctypes
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from http.client import HTTPConnection, HTTPException
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, cast

from puzzledsl.base.files import scratch, write_sealed
from puzzledsl.base.frozen import Record
from puzzledsl.base.process import usable_cores
from puzzledsl.base.progress import Progress
from puzzledsl.costs.metrics import own_costs, whole_metrics
from puzzledsl.costs.simulation import Engine, Latency, Request, arrivals, summary
from puzzledsl.export.engines.ask import environment, llama_library, python_of
from puzzledsl.ir import tables
from puzzledsl.ir.measured_engines import ENGINES
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Program, Traffic
from puzzledsl.measure.whole import Samples, Workload
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.serving.clock import SPARE, TORCH_NAMES, Bed, in_turn, write_blank, write_model
from puzzledsl.serving.pulse import Pulse

LOADING_S = 600
"""Seconds that a server may take to load a model."""
PATIENCE = 4
"""A run is given up after so many times the seconds that its requests should take, but not before LEAST_S."""
LEAST_S = 60
LEAST_REQUESTS = 10
LONE = 4
"""Number of lone requests before the first run and after each, which tell how fast the machine is at the time."""
POOLED = 32
"""A model's pace is the mean of so many latest lone requests. Of eight it was 4 % off, and times in a queue 15 %."""
NS_PER_S = 10**9
VLLM = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
"""Variables of vLLM's server, as `export/engines/vllm_engine.py` has them: a GiB of caches, threads where the system has room."""
FIRST_TOKEN, TOKENS = 100, 1000
"""Prompts are drawn from so many tokens, from the first on: no vocabulary's special ones."""


class LoadFailed(Exception):
    """A server did not start, or a request failed or was not answered in time. The message is the reason."""


def server_command(engine: str) -> str | None:
    """Return the command that serves `{model}` at `{port}`, `{most}` sequences of `{context}` tokens; None if there is none.

    Engines are started as costs are measured in them: vLLM without compiled graphs, in the hardware's dtype.
    """
    if engine == "llama_cpp":
        library = llama_library()
        server = None if library is None else library.parent.parent / "bin" / "llama-server"
        options = "-m {model} --port {port} -np {most} -c {all} -t {threads} -tb {threads} --no-webui"
        return None if server is None or not server.is_file() else f"{shlex.quote(str(server))} {options}"
    python = python_of("vllm") if engine == "vllm" else None
    options = (
        "-m vllm.entrypoints.openai.api_server --model {model} --port {port} --served-model-name model "
        "--max-num-seqs {most} --max-model-len {context} --dtype {dtype} "
        "--enforce-eager --no-enable-prefix-caching --trust-remote-code"
    )
    return None if python is None else f"{shlex.quote(str(python))} {options}"


class Server(Record):
    """A model that is served at a port of this machine, by a process that may run on `cores`."""

    port: int
    cores: frozenset[int] = frozenset()

    def serve(self, requests: Sequence[Request], seconds: float) -> list[Latency]:
        """Send requests when they arrive; return latencies. Raises LoadFailed: one fails, or is unanswered after `seconds`."""
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
            unanswered = f"{len(requests) - len(found)} of {len(requests)} requests"
            raise LoadFailed(f"{unanswered} unanswered after {seconds:.0f} s")
        return [found[number] for number in range(len(requests))]

    def answered(self, request: Request, seed: int, arrival: float) -> Latency:
        """Send one request and read its stream. Raises OSError, HTTPException, ValueError."""
        rng = Random(seed)
        prompt = [rng.randrange(FIRST_TOKEN, FIRST_TOKEN + TOKENS) for _ in range(request.prompt)]
        asked = {"model": "model", "prompt": prompt, "max_tokens": request.output, "stream": True}
        asked |= {"temperature": 0, "ignore_eos": True, "cache_prompt": False}
        connection = HTTPConnection("127.0.0.1", self.port)
        try:
            kind = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/completions", json.dumps(asked), kind)
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


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _end_with_parent() -> None:
    """Have Linux end this process when its parent ends, however that is."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def served(
    command: str, model: Path, most: int, context: int, threads: int, dtype: str = ""
) -> Iterator[Server]:
    """Serve a model for the time of the context. Raises LoadFailed: a server that does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sizes = {"most": most, "context": context, "all": most * context, "threads": threads}
    words = [word.format(model=model, port=port, dtype=dtype, **sizes) for word in shlex.split(command)]
    with scratch("load") as folder, (folder / "log").open("w+b") as log:
        variables = {**os.environ, **environment("llama_cpp", threads, str(folder)), **VLLM}
        try:
            process = subprocess.Popen(
                words,
                stdout=log,
                stderr=log,
                env=variables,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            raise LoadFailed(f"{words[0]}: {error.strerror}") from None
        try:
            _wait(process, port, log)
            # none where the system does not say
            cores = os.sched_getaffinity(process.pid) if hasattr(os, "sched_getaffinity") else ()
            yield Server(port, frozenset(cores))
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
            lines = log.read().decode(errors="replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
            raise LoadFailed(f"the server ended with exit code {code}: {last[-300:]}")
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
    """Return the figures of `simulation.summary`, and `rate`: finished requests a second."""
    ends = [
        request.arrival_ns / NS_PER_S + latency.ttft_s + latency.tpot_s * (request.output - 1)
        for request, latency in zip(requests, latencies, strict=True)
    ]
    return {"rate": len(ends) / max(ends), **summary(latencies)}


def patience(requests: Sequence[Request], predicted: Mapping[str, float]) -> float:
    """Return the seconds after which unanswered requests are given up; `predicted`: figures by simulation."""
    expected = max(requests[-1].arrival_ns / NS_PER_S, len(requests) / predicted["rate"])
    return max(LEAST_S, PATIENCE * expected)


Paces = list[tuple[float, float]]
"""Times of a prompt and of a token of each lone request at the usual pace, as multiples of those in an engine's costs."""


@dataclass
class _Lane:
    """A served model and its simulation by costs. `top`: the rate that it is predicted to sustain; `alone`: its lone request.

    `lone`: the paces of its lone requests, converted by the pulse to the usual pace of the machine.
    """

    search: str | None
    server: Server
    engine: Engine
    top: float
    alone: Request
    lone: Paces = field(default_factory=list)

    def look(self, pulse: Pulse) -> None:
        """Serve LONE lone requests now, and note their paces."""
        expected = self.engine.serve([self.alone])[0]
        for _ in range(LONE):
            begun = time.monotonic()
            alone = self.server.serve([self.alone], LEAST_S)[0]
            usual = pulse.clock(begun).at_usual_pace(self.alone, alone)
            self.lone.append((usual.ttft_s / expected.ttft_s, usual.tpot_s / (expected.tpot_s or 1)))

    def run(self, requests: Sequence[Request], asked: float, seed: int, pulse: Pulse) -> tables.LoadRun:
        """Serve requests; return their figures, measured, and simulated at the pace of the machine meanwhile.

        That is the mean pace of the latest lone requests, times the machine's pace by its pulse. `asked`: requests a second.
        """
        if not self.lone:
            self.look(pulse)
        expected = figures(requests, self.engine.serve(requests))
        begun = time.monotonic()
        measured = self.server.serve(requests, patience(requests, expected))
        ended = time.monotonic() - begun
        self.look(pulse)
        prompt, token = (fmean(each) for each in zip(*self.lone[-POOLED:], strict=True))
        clock = pulse.clock(begun)
        predicted = clock.served(self.engine.at_pace(prompt, token), requests)
        return tables.LoadRun(
            model="parent" if self.search is None else "child",
            asked=asked,
            seed=seed,
            requests=len(requests),
            prompt_pace=prompt * clock.pace(ended),
            token_pace=token * clock.pace(ended),
            predicted=figures(requests, predicted),
            measured=figures(requests, measured),
        )


class LoadBench(Record):
    """Inputs of a check under load: costs of the scenario at each number of sequences, children of searches of one space."""

    program: Program
    scenario: str
    listed: Sequence[tables.ScenarioCosts]
    children: Mapping[str, Sequence[tables.Assignment]]
    parent_dir: Path
    command: str
    seconds: float

    def check(
        self, shares: Sequence[float], seeds: Sequence[int], work: Path, progress: Progress
    ) -> dict[str, tables.LoadCheck]:
        """Return by search how parent and child are served, at shares of the rate that each is predicted to sustain.

        Models of llama.cpp take turns, so that all meet the same state of the machine; those of other engines, which may take
        all memory, one after the other. Finished runs are kept in `work` until all are. Raises LoadFailed,
        DiagnosticError.
        """
        parent = [tables.PARENT] * len(tables.layers_of_child(next(iter(self.children.values()))))
        order: list[str | None] = [None, *self.children]
        models = {search: parent if search is None else self.children[search] for search in order}
        wanted = [*product(shares, seeds)]
        progress.start(f"load of {', '.join(self.children)}", len(models) * len(wanted))
        places = {
            (search, *at): work / self._digest(search, models[search], *at)
            for search in order
            for at in wanted
        }
        known = {
            key: run for key, place in places.items() if (run := tables.LoadRun.of_sealed(place)) is not None
        }
        progress.advance(len(known), kept=True)
        for group in [order] if self._spec.engine == "llama_cpp" else [[search] for search in order]:
            left = [(*at, search) for at in wanted for search in group if (search, *at) not in known]
            with ExitStack() as held:
                lanes = {
                    search: held.enter_context(self._lane(search, models[search]))
                    for search in (group if left else ())
                }
                cores = {core for lane in lanes.values() for core in lane.server.cores}
                pulse = held.enter_context(Pulse(cores if self._spec.device == "cpu" else ()))
                for share, seed, search in left:
                    asked = lanes[search].top * share
                    run = lanes[search].run(self._requests(asked, seed), asked, seed, pulse)
                    known[search, share, seed] = run
                    write_sealed(places[search, share, seed], run.canonical_json())
                    progress.advance(1)
        shutil.rmtree(work, ignore_errors=True)
        runs = {search: [known[search, *at] for at in wanted] for search in order}
        return {
            search: tables.LoadCheck(
                search=search,
                layers=tuple(self.children[search]),
                scenario=self.scenario,
                engine=ENGINES[self._spec.engine].title,
                at_most=self._traffic.at_most,
                runs=(*runs[None], *runs[search]),
            )
            for search in self.children
        }

    def _digest(
        self, search: str | None, layers: Sequence[tables.Assignment], share: float, seed: int
    ) -> str:
        """Return the key of one run of a model: a digest of what it depends on."""
        parts = [self.scenario, self.command, self._traffic.model_dump_json(), repr(self._tokens)]
        parts += [repr((search, share, seed, self.seconds)), *map(repr, layers)]
        parts += [each.model_dump_json() for each in self.listed]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def _hardware(self) -> Hardware:
        return self.program.hardware[self.program.scenarios[self.scenario].hardware]

    @property
    def _spec(self) -> MeasuredHardware:
        assert isinstance(self._hardware.spec, MeasuredHardware)
        return self._hardware.spec

    @property
    def _traffic(self) -> Traffic:
        traffic = self.program.scenarios[self.scenario].traffic
        assert traffic is not None
        return traffic

    @property
    def _tokens(self) -> tuple[int, int]:
        scenario = self.program.scenarios[self.scenario]
        return scenario.prompt, scenario.output

    @contextmanager
    def _lane(self, search: str | None, layers: Sequence[tables.Assignment]) -> Iterator[_Lane]:
        """Serve a model of these layers for the time of the context, and warm it up."""
        most, longest = self._traffic.at_most, max(self._traffic.requests or (self._tokens,), key=sum)
        threads = self._spec.threads or usable_cores()
        top = whole_metrics(self.listed, layers, own_costs(self.listed, layers))["max_rate"]
        with scratch("model") as folder:
            path = self._written(layers, folder)
            command = self.command
            if command == server_command(self._spec.engine):
                command = f"{command} {Bed.of(self._hardware).caches(path).flags}"
            dtype = TORCH_NAMES.get(self._spec.dtype, self._spec.dtype)
            with served(command, path, most, sum(longest) + SPARE, threads, dtype) as server:
                alone = Request(0, *longest)
                server.serve([alone] * min(2, most), LEAST_S)
                engine = Engine.of(self.listed, layers, joined=ENGINES[self._spec.engine].joined)
                yield _Lane(search, server, engine, float(top), alone)

    def _requests(self, rate: float, seed: int) -> list[Request]:
        """Return the requests of a run at `rate` a second."""
        traffic = self._traffic.model_copy(update={"rate": Fraction(rate)})
        return arrivals(traffic, self._tokens, max(LEAST_REQUESTS, round(rate * self.seconds)), seed)

    def _written(self, layers: Sequence[tables.Assignment], folder: Path) -> Path:
        """Write a model of these layers for the engine, of random weights: times depend on no weight's value."""
        space = self.program.spaces[self.program.searches[next(iter(self.children))].space]
        shape = self.program.parents[space.parent].shape
        chosen = []
        for choice, layer in zip(tables.layers_of_child(layers), space.layers, strict=True):
            attention, ffn = layer.by_name()
            chosen.append((attention[choice.attention], ffn[choice.ffn]))
        ends, engine = tables.ends_of_child(layers).name, cast(tables.EngineName, self._spec.engine)
        return write_blank(self.parent_dir, shape, chosen, ends, engine, folder, self._spec.dtype, words=True)


def time_in_engine(
    hardware: Hardware, workload: Workload, models: Sequence[Path], turns: int
) -> list[Samples]:
    """Time the models of directories in turn. Raises DiagnosticError: EngineAbsent, EngineFailed, those of an export."""
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
