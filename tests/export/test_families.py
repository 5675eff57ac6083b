"""Each family of parents: each alternative inside its layers, in every engine that can run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.child.checkpoint.errors import RuntimeLacksFamily, RuntimeLacksIt, RuntimeLacksWindow
from puzzledsl.export.engines.worker import run
from puzzledsl.export.lowering import lower
from puzzledsl.export.prepare import prepare
from puzzledsl.ir.runtimes import RUNTIMES
from tests.export.test_engines import request_for
from tests.export.variants import G1, LA, LF, MIXTURE, NA, NF, STEPS, TOLERANCE, A, F, M, Made, Variant, make

SMOLLM2 = {"tied": True, "heads": 3, "kv_heads": 1, "hidden": 24, "head_dim": 8}
"""SmolLM2's shape in small: Llama with tied embeddings, an odd number of heads, and hidden = heads x head_dim."""
PARENTS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "smollm2": ("llama", SMOLLM2),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
}
FIRST = {"gqa": (G1, F), "linear": (LA, F), "noop": (NA, F), "mlp": (A, M), "ffn": (A, LF), "no_ffn": (A, NF)}
CASES = {
    f"{parent}-{name}": Variant((choice, (A, F)), family, sizes)
    for parent, (family, sizes) in PARENTS.items()
    for name, choice in FIRST.items()
} | {f"{parent}-mixture": Variant(MIXTURE, family, sizes) for parent, (family, sizes) in PARENTS.items()}
WINDOWS = {
    "mistral-window": Variant(MIXTURE, "mistral", {"sliding_window": 5}),
    "llama-window": Variant(((A, F), (GqaAttention(kv_heads=2, window=5), M)), "llama"),
}


@pytest.fixture(scope="module", params=[*CASES, *WINDOWS])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Made]:
    variant = (CASES | WINDOWS)[request.param]
    return request.param, make(variant, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("engine", ["transformers", "llama_cpp", "mlx"])
def test_every_family_runs_or_is_refused(made: tuple[str, Made], engine, tmp_path: Path) -> None:
    name, child = made
    if engine == "llama_cpp" and (name in WINDOWS or name.startswith("qwen3")):
        with pytest.raises(DiagnosticError) as caught:
            prepare(from_directory(child.child), child.child, engine, tmp_path)
        kind = RuntimeLacksFamily if name not in WINDOWS else RuntimeLacksIt | RuntimeLacksWindow
        assert all(isinstance(d, kind) for d in caught.value.diagnostics)
        return
    path = prepare(from_directory(child.child), child.child, engine, tmp_path)
    _, found = run(engine, request_for(path, child.prompt))
    assert np.abs(found["logits.0.0"] - child.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == child.greedy
    assert len(child.greedy) == STEPS


def test_vllm_refuses_what_it_would_get_wrong(made: tuple[str, Made]) -> None:
    """vLLM itself runs in the slow tests; what it may be given is decided here."""
    name, child = made
    if name in WINDOWS or name.startswith("qwen3"):
        with pytest.raises(DiagnosticError):
            lower(from_directory(child.child), RUNTIMES["vllm"])
    else:
        lowered = lower(from_directory(child.child), RUNTIMES["vllm"])
        assert lowered.shape.family == "llama"
        assert lowered.layers[0][0].kind in ("parent", "gqa")
