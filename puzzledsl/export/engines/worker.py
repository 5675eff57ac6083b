"""Run an engine's models, as asked line by line.

`python worker.py ENGINE` reads JSON lines and answers each with one: `{"ok": …}` or `{"error": …}`.
`{"op": "open", "path": …, "request": …}` loads a model, with the engine's usual settings (`batch`, `context`, `threads`,
`dtype`), to time it; `{"op": "prefill", "prompt": N}` times one prompt of every sequence; `{"op": "fill", "context": N}` gives
every sequence N tokens, after which `{"op": "steps", "steps": N}` times decode steps (vLLM: after others). Times are seconds.

`{"op": "run", "request": …, "path": …}` writes the answers of some models to an .npz file. Request: `models` (paths), `prompts`
(lists of token ids), `steps` (tokens to choose greedily), `context` (of the KV cache), `threads`, `dtype`, and where keys and
values are rounded their type, `cache`, and the layers `kept` as they are. File: `logits.M.P` [S, V] and `greedy.M.P` [steps] for
model M and prompt P. The answer is the engine's `version`, and whether the logits are log-probabilities.

`{"op": "quantise", "request": …}` is llama.cpp's own quantiser, by the arguments of `llama_cpp_engine.quantise`. Each line of its
log is an answer before the last one: `{"said": …}`.

The process ends soon after the one that started it, however that ends.
"""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np

POLL_S = 0.5


def run(name: str, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the answer to a `run` request, and the arrays for its file."""
    engine_class = _module(name).Engine
    facts: dict[str, Any] = {"logprobs": engine_class.logprobs}
    arrays: dict[str, Any] = {}
    for index, path in enumerate(request["models"]):
        engine = engine_class(path, request)
        facts["version"] = engine.version
        for number, prompt in enumerate(request["prompts"]):
            logits, chosen = greedy(engine, prompt, request["steps"])
            arrays[f"logits.{index}.{number}"], arrays[f"greedy.{index}.{number}"] = logits, chosen
        engine.close()
    return facts, arrays


def greedy(engine: Any, prompt: list[int], steps: int) -> tuple[Any, list[int]]:
    """Return the logits of the prompt [S, V] and the `steps` greedy tokens after it, decoded with the KV cache."""
    if hasattr(engine, "greedy"):
        found: tuple[Any, list[int]] = engine.greedy(prompt, steps)
        return found
    engine.reset_cache()
    logits = engine.forward(prompt)
    chosen = [int(logits[-1].argmax())]
    while len(chosen) < steps:
        chosen.append(int(engine.forward(chosen[-1:])[-1].argmax()))
    return logits, chosen


@cache
def _module(name: str) -> Any:
    """Load `NAME_engine.py` from beside this file: the package may not be installed in this environment."""
    path = Path(__file__).with_name(f"{name}_engine.py")
    spec = importlib.util.spec_from_file_location(f"pzl_{name}_engine", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(name: str) -> None:
    """Answer requests until the input ends. What the engine prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    model: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            match asked["op"]:
                case "open":
                    model = _module(name).Engine(asked["path"], asked["request"] | {"serving": True})
                    found: Any = model.version
                case "run":
                    found, arrays = run(name, asked["request"])
                    values: dict[str, Any] = {key: np.asarray(value) for key, value in arrays.items()}
                    np.savez(asked["path"], **values)
                case "prefill":
                    found = model.time_prefill(asked["prompt"])
                case "fill":
                    found = model.fill(asked["context"])
                case "steps":
                    found = model.time_steps(asked["steps"])
                case "quantise":
                    found = _module(name).quantise(**asked["request"], say=partial(_say, answers))
                case other:
                    raise ValueError(f"no operation {other!r}")
            answer = {"ok": found}
        except Exception as error:  # any library's; the caller knows the model
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _say(answers: IO[str], line: str) -> None:
    print(json.dumps({"said": line}), file=answers, flush=True)


def end_with(parent: int) -> None:
    """End this process, and those that it started in a session of its own, soon after `parent` has ended."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    starter = int(os.environ.get("PZL_STARTED_BY") or os.getppid())
    threading.Thread(target=end_with, args=(starter,), daemon=True).start()
    serve(sys.argv[1])
    os._exit(0)  # some engines' threads never end
