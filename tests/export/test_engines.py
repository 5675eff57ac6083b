"""Every alternative in every place, in engines that nobody wrote for it, against a float64 forward written from the
mathematics: the same logits, and the same 32 greedy tokens through the engine's own KV cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from puzzledsl.alternatives.support import Lowered
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.export.engines.ask import Answer, Crash, ask
from puzzledsl.export.engines.worker import run
from puzzledsl.export.gguf_file import write_gguf
from puzzledsl.export.verify import prepare
from puzzledsl.ir.engines import DECI
from tests.cases import more
from tests.export.variants import NF, STEPS, TOLERANCE, VARIANTS, A, F, Made, Variant, make

ENGINES = ("transformers", "llama_cpp", "mlx")


ENDS = [name for name in VARIANTS if name.endswith(("_first", "_last"))]
FEW = [name for name in VARIANTS if name not in ENDS]
"""Each alternative in the middle, and mixtures that have some first and last."""


@pytest.fixture(scope="module", params=[*FEW, *more(*ENDS)])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(VARIANTS[request.param], tmp_path_factory.mktemp(request.param))


def request_for(path: Path, prompt: list[int]) -> dict[str, object]:
    return {
        "models": [str(path)],
        "prompts": [prompt],
        "steps": STEPS,
        "context": 128,
        "threads": 1,
        "dtype": "float32",
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_computes_what_the_oracle_does(made: Made, engine, tmp_path: Path) -> None:
    path = prepare(from_directory(made.child), made.child, engine, tmp_path)
    _, found = run(engine, request_for(path, made.prompt))
    assert np.abs(found["logits.0.0"] - made.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == made.greedy


@pytest.fixture(scope="module")
def without_ffn(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(VARIANTS["noop_ffn_middle"], tmp_path_factory.mktemp("ffn"))


def unlowered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have children written for llama.cpp as they are."""
    monkeypatch.setattr("puzzledsl.export.gguf_file.lower", lambda child, _: child)


def test_llama_cpp_is_silently_wrong_about_a_missing_ffn(
    without_ffn: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why a removed FFN is lowered there: written as it is, it loads, runs, and gives other numbers."""
    assert isinstance(DECI.no_ffn, Lowered)
    right = write(without_ffn, tmp_path / "right.gguf")
    unlowered(monkeypatch)
    wrong = write(without_ffn, tmp_path / "wrong.gguf")
    answers = ask("llama_cpp", [right, wrong], [without_ffn.prompt], steps=STEPS)
    assert isinstance(answers, Answer)
    errors = [np.abs(logits[0] - without_ffn.logits).max() for logits in answers.logits]
    assert errors[0] <= TOLERANCE
    assert errors[1] > 0.1


def write(made: Made, path: Path) -> Path:
    write_gguf(from_directory(made.child), made.child, path, "f32", name="tiny")
    return path


def test_an_engine_that_crashes_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp aborts the process over a missing FFN in the last layer."""
    made = make(Variant(((A, F), (A, NF))), tmp_path)
    unlowered(monkeypatch)
    answer = ask("llama_cpp", [write(made, tmp_path / "child.gguf")], [made.prompt])
    assert isinstance(answer, Crash)
    assert "signal" in answer.reason or "failed" in answer.reason
