"""A whole program on a random 3-layer parent, and the commands of it: nothing in it is timed, so its files are exact."""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from puzzledsl.pipeline.context import Stamps
from puzzledsl.pipeline.tasks import TASKS
from tests import forked
from tests.commands import told
from tests.forked import pzl
from tests.tiny import save_tiny

SOURCE = """\
parent tiny = hf("parent")
space wide of tiny {
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 50%) | linear | noop
}
hardware toy {
  memory = 1GB, bandwidth = 1GB/s, link = 1GB/s
  peak { fp32 = 1GFLOP/s }
  dtype = fp32, kv_cache = fp32, embedding = fp32
  efficiency { compute = 60%, bandwidth = 90%, attention = 30%, link = 70% }
  overhead = 1us, link_latency = 1us, reserve = 1MB, kv_fraction = 90%, page = 16, max_batch = 8
}
scenario chat on toy = batch(1, 16 -> 16)
data corpus = text("corpus.txt")
bld pieces of wide {
  train = attention + ffn
  tokens = 512, context = 32, batch = 2, calibration = 512
  lr = cosine(1e-3, warmup: 10%), data = corpus
}
score kl of pieces = replace_one(kl_divergence, samples: 128)
search best of wide {
  minimize kl
  require chat.throughput >= 1.2x
}
search greedy of best { prefer -params }
search most   of best { maximize params }
uptrain final of best {
  loss = 1 * kld + 1 * cosine
  tokens = 512, context = 32, batch = 2, lr = cosine(1e-3), data = corpus
}
eval quality of final = tasks("items.jsonl") { data = corpus, tokens = 256 }
export ship of final = hf("out")
"""
COMMAND = [sys.executable, "-m", "puzzledsl.cli.main"]
ENVIRONMENT = forked.ONE_THREAD
VOLATILE = {"log.jsonl", ".lock", ".holder.json"}


def write_tiny_program(directory: Path, more: str | None = None) -> Path:
    """Write the parent, its text, its tasks and the program, of which `more` follows the first search; return its path."""
    save_tiny(directory / "parent", layers=3)
    words = "the cat sat on a mat while seven dogs ran past an old red barn and nobody saw them go".split()
    sentences = [
        " ".join(words[(i * 7 + j * (i % 5 + 1)) % len(words)] for j in range(12)) for i in range(240)
    ]
    documents = [". ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)]
    (directory / "corpus.txt").write_text("\n\n".join(documents))
    items = [
        {"context": f"number {i}", "choices": ["goes on", "stops", "is odd", "is even"], "answer": i % 4}
        for i in range(6)
    ]
    (directory / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    program = directory / "tiny.pzl"
    program.write_text(SOURCE if more is None else SOURCE[: SOURCE.index("search greedy")] + more)
    return program


def ran(*arguments: str | Path) -> str:
    """Run `pzl ARGUMENTS` in a process of its own, which must succeed; return its output."""
    result = pzl(*arguments, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_with(directory: Path, more: str) -> Path:
    """The program as far as its first search, then `more`, run to its end; returns the build directory."""
    ran("run", write_tiny_program(directory, more))
    return directory / "build"


def told_states(program: Path, *more: str | Path) -> dict[str, tuple[str, str]]:
    """Each task's state and its reason, as `pzl status` says them."""
    tasks = told("status", program, *more)["tasks"]
    return {f"{t['stage']} {t['name']}".strip(): (t["state"], t["why"]) for t in tasks}


def seconds_of(program: Path, *more: str | Path) -> dict[str, float]:
    """Each task's seconds, as a dry run estimates them."""
    steps = told("run", program, "--dry-run", *more)["steps"]
    return {f"{step['stage']} {step['name']}".strip(): step["seconds"] for step in steps}


def read(path: Path) -> Any:
    """Read an artefact's JSON."""
    return json.loads(path.read_text())


def contents(build: Path) -> dict[str, str]:
    """Every file's digest, but for the log of what happened when and locks; lines of caches come in any order."""
    return {
        str(path.relative_to(build)): hashlib.sha256(
            b"".join(sorted(path.read_bytes().splitlines()))
            if path.parent.name == "figures"
            else path.read_bytes()
        ).hexdigest()
        for path in sorted(build.rglob("*"))
        if path.is_file() and path.name not in VOLATILE
    }


def events(build: Path) -> list[dict[str, str]]:
    log = build / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def started(build: Path, seen: int = 0) -> list[str]:
    """Tasks that have begun, after so many events."""
    new = [event for event in events(build)[seen:] if event["event"] == "start"]
    return [f"{event['stage']} {event['name']}".strip() for event in new]


def begun(program: Path, build: Path, stage: str) -> forked.Forked:
    """A run that has begun a stage, or has ended."""
    before, deadline = len(events(build)), time.monotonic() + 200
    process = forked.start([*COMMAND[1:], "run", str(program), "-o", str(build)], env=ENVIRONMENT)
    while time.monotonic() < deadline and process.poll() is None:
        if any(task.split()[0] == stage for task in started(build, before)):
            break
        time.sleep(0.01)
    return process


def kill_during(program: Path, build: Path, stage: str) -> None:
    """Start a run and SIGKILL it as soon as `stage` has begun."""
    process = begun(program, build, stage)
    assert process.poll() is None, f"the run ended before {stage} began"
    time.sleep(0.05)
    process.kill()
    process.communicate()


def forget_after(build: Path, stage: str | None) -> None:
    """Leave of a build what was there when `stage` had just ended (None: nothing but tokenised text)."""
    first = 0 if stage is None else list(TASKS).index(stage) + 1
    for stamp in list(Stamps(build).all()):
        if stamp.stage not in TASKS or list(TASKS).index(stamp.stage) < first:
            continue
        for path in stamp.outputs:
            (build / path).unlink(missing_ok=True)
        Stamps(build).path(stamp.stage, stamp.name).unlink()
    if stage is None:
        shutil.rmtree(build / "library")
