"""Every alternative in every place and of every family, in engines that nobody wrote for it, against a float64 forward
written from the mathematics: the same logits, and the same 32 greedy tokens through the engine's own KV cache."""

from pathlib import Path

import numpy as np
import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.child.definition import RuntimeLacksFamily, RuntimeLacksIt, RuntimeLacksWindow
from puzzledsl.export.engines.worker import run
from puzzledsl.export.gguf_file import write_gguf
from puzzledsl.export.lowering import choose
from puzzledsl.export.verify import prepare
from puzzledsl.ir.engines import RUNTIMES
from tests.cases import more
from tests.export.variants import (
    MOE,
    OF_PARENTS,
    OTHERS,
    STEPS,
    TOLERANCE,
    VARIANTS,
    Made,
    make,
)

ALL = VARIANTS | OF_PARENTS | OTHERS | MOE
FEW = {
    *(name for name in VARIANTS if not name.endswith(("_first", "_last"))),
    *("qwen3-mixture", "smollm2-mixture", "mistral-window", "qwen2-window", "qwen3-two-windows"),
    *("llama-heads", "qwen3-heads", "qwen3-first-tokens", "granite-mixture"),
    *MOE,
}
"""Each alternative in the middle, mixtures that have some first and last, and each reason why an engine refuses a child."""
LINEAR = {n for n in OF_PARENTS if n.startswith("qwen3") and n.endswith(("-linear", "-ffn", "-mixture"))}
NEW = {"olmo2-mixture", "smollm3-mixture", "granite-mixture"}
WINDOWS = {"mistral-window", "qwen2-window", "qwen3-two-windows", "qwen3-first-tokens"}
REFUSED = {
    "llama_cpp": LINEAR | NEW | WINDOWS | {"moe-fewer-a-token", "moe-fewer-of-all"},
    "vllm": {"qwen3-two-windows", "qwen3-first-tokens"},
    "mlx": NEW | {"qwen3-first-tokens", "qwen3-heads", "qwen3-heads-tied", "llama-heads", *MOE},
    "transformers": set[str](),
}
GROUPED = {name for name in OF_PARENTS if name.startswith("qwen3")} | {*OTHERS, *MOE}
"""Children that vLLM runs in its Transformers backend."""


@pytest.fixture(scope="module", params=[name if name in FEW else more(name)[0] for name in ALL])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Made]:
    return request.param, make(ALL[request.param], tmp_path_factory.mktemp(request.param))


def request_for(path: Path, prompt: list[int]) -> dict[str, object]:
    sizes = {"steps": STEPS, "context": 128, "threads": 1, "dtype": "float32"}
    return {"models": [str(path)], "prompts": [prompt], **sizes}


def same(engine: str, made: Made, folder: Path) -> Path:
    """Have an engine compute what the oracle does: for vLLM, which runs in slow tests, transformers with what it is given."""
    path = prepare(from_directory(made.child), made.child, engine, folder)  # type: ignore[arg-type]
    _, found = run("transformers" if engine == "vllm" else engine, request_for(path, made.prompt))
    assert np.abs(found["logits.0.0"] - made.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == made.greedy and len(made.greedy) == STEPS
    return path


@pytest.mark.parametrize("engine", ["transformers", "llama_cpp", "mlx", "vllm"])
def test_an_engine_computes_what_the_oracle_does_or_refuses(
    made: tuple[str, Made], engine, tmp_path: Path
) -> None:
    name, child = made
    files = from_directory(child.child)
    if name in REFUSED[engine]:
        with pytest.raises(DiagnosticError) as caught:
            prepare(files, child.child, engine, tmp_path)
        kinds = RuntimeLacksIt, RuntimeLacksWindow, RuntimeLacksFamily
        assert all(d.kind in kinds for d in caught.value.diagnostics)
        assert not list(tmp_path.glob("*.gguf"))
        return
    if engine == "vllm":
        assert choose(files, RUNTIMES["vllm"]).grouped == (name in GROUPED)
    same(engine, child, tmp_path)


def write(made: Made, path: Path) -> Path:
    write_gguf(from_directory(made.child), made.child, path, "f32", name="tiny")
    return path
