"""`python worker.py ENGINE REQUEST.json RESULT.npz`: run models in an engine and write their answers.

Request: `models` (paths), `prompts` (lists of token ids), `steps` (tokens to choose greedily), `context` (of the KV cache),
`threads`, `dtype`; optionally `speed` {`prompt`: token ids, `steps`, `rounds`} and `text`, a prompt in words.
Result: `logits.M.P` [S, V] and `greedy.M.P` [steps] for model M and prompt P; `facts`, JSON: the engine's `version`, whether
the logits are log-probabilities, and for each model `prefill` and `decode` (tokens a second, by round) and `text`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


def run(name: str, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(facts, arrays) of a request."""
    engine_class = _engine(name)
    facts: dict[str, Any] = {"models": [], "logprobs": engine_class.logprobs}
    arrays: dict[str, Any] = {}
    for index, path in enumerate(request["models"]):
        engine = engine_class(path, request)
        facts["version"] = engine.version
        entry: dict[str, Any] = {}
        for number, prompt in enumerate(request["prompts"]):
            logits, chosen = engine.greedy(prompt, request["steps"])
            arrays[f"logits.{index}.{number}"], arrays[f"greedy.{index}.{number}"] = logits, chosen
        if speed := request.get("speed"):
            engine.speed(speed["prompt"], 2)  # the first time is slower in every engine
            rounds = [engine.speed(speed["prompt"], speed["steps"]) for _ in range(speed["rounds"])]
            entry["prefill"], entry["decode"] = [r[0] for r in rounds], [r[1] for r in rounds]
        if request.get("text"):
            entry["text"] = engine.text(request["text"], 48)
        facts["models"].append(entry)
        engine.close()
    return facts, arrays


@cache
def _engine(name: str) -> Any:
    """The class in `NAME_engine.py`, found without a package: the file may be alone with its engine."""
    path = Path(__file__).with_name(f"{name}_engine.py")
    spec = importlib.util.spec_from_file_location(f"pzl_{name}_engine", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Engine


if __name__ == "__main__":
    found, values = run(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    arrays_out: dict[str, Any] = {key: np.asarray(value) for key, value in values.items()}
    np.savez(sys.argv[3], facts=np.asarray(json.dumps(found)), **arrays_out)
