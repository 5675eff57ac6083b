"""Each family of parents: each alternative inside its layers, in every engine that can run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.child.definition import RuntimeLacksFamily, RuntimeLacksIt, RuntimeLacksWindow
from puzzledsl.export.engines.worker import run
from puzzledsl.export.lowering import choose
from puzzledsl.export.verify import prepare
from puzzledsl.ir.engines import RUNTIMES
from tests.cases import more
from tests.export.test_engines import request_for
from tests.export.variants import G1, LA, LF, MIXTURE, NA, NF, STEPS, TOLERANCE, A, F, M, Made, Variant, make

H2 = GqaAttention(kv_heads=1, heads=2)
W1, W2 = GqaAttention(kv_heads=1, window=5), GqaAttention(kv_heads=2, window=5)
SMOLLM2 = {"tied": True, "heads": 3, "kv_heads": 1, "hidden": 24, "head_dim": 8}
"""SmolLM2's shape in small: Llama with tied embeddings, an odd number of heads, and hidden = heads x head_dim."""
PARENTS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "smollm2": ("llama", SMOLLM2),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "qwen3_tied": ("qwen3", {"tied": True}),
}
FIRST = {"gqa": (G1, F), "linear": (LA, F), "noop": (NA, F), "mlp": (A, M), "ffn": (A, LF), "no_ffn": (A, NF)}
CASES = {
    f"{parent}-{name}": Variant((choice, (A, F)), family, sizes)
    for parent, (family, sizes) in PARENTS.items()
    for name, choice in FIRST.items()
} | {f"{parent}-mixture": Variant(MIXTURE, family, sizes) for parent, (family, sizes) in PARENTS.items()}
OTHERS = {
    "mistral-window": Variant(MIXTURE, "mistral", {"sliding_window": 5}),
    "llama-window": Variant(((A, F), (W2, M)), "llama"),
    "mistral-one-window": Variant(((A, F), (W1, NF), (NA, F)), "mistral", {"sliding_window": 5}),
    "qwen2-window": Variant(((A, F), (W1, M), (NA, NF), (W2, F)), "qwen2"),
    "qwen3-window": Variant(((A, F), (W1, M), (NA, NF), (W2, F)), "qwen3"),
    "qwen3-window-tied": Variant(((NA, F), (W1, M), (G1, F)), "qwen3", {"tied": True}),
    "qwen3-heads": Variant(((A, F), (H2, F), (A, M)), "qwen3"),
    "qwen3-heads-tied": Variant(((H2, F), (A, M), (NA, F)), "qwen3", {"tied": True}),
    "llama-heads": Variant(((A, F), (H2, NF), (LA, F)), "llama"),
    **{f"{name}-mixture": Variant(MIXTURE, name) for name in ("olmo2", "smollm3", "granite")},
    "qwen3-two-windows": Variant(((A, F), (W1, M), (GqaAttention(kv_heads=2, window=7), F)), "qwen3"),
    "qwen3-first-tokens": Variant(((A, F), (GqaAttention(kv_heads=2, window=7, sinks=2), F)), "qwen3"),
}


FEW = {
    *(name for name in CASES if name.startswith("llama-")),
    *("qwen3-mixture", "smollm2-mixture", "mistral-window", "qwen2-window", "qwen3-two-windows"),
    *("llama-heads", "qwen3-heads", "qwen3-first-tokens", "granite-mixture"),
}
"""Every alternative in one family, and each reason why an engine refuses a child: those of `make test`."""
PARAMS = [name if name in FEW else more(name)[0] for name in [*CASES, *OTHERS]]


@pytest.fixture(scope="module", params=PARAMS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Made]:
    variant = (CASES | OTHERS)[request.param]
    return request.param, make(variant, tmp_path_factory.mktemp(request.param))


LINEAR = {
    name for name in CASES if name.startswith("qwen3") and name.split("-")[1] in ("linear", "ffn", "mixture")
}
NEW = {"olmo2-mixture", "smollm3-mixture", "granite-mixture"}
REFUSED = {
    "llama_cpp": LINEAR | NEW | {"mistral-window", "qwen2-window", "qwen3-two-windows", "qwen3-first-tokens"},
    "vllm": {"qwen3-two-windows", "qwen3-first-tokens"},
    "mlx": NEW | {"qwen3-first-tokens", "qwen3-heads", "qwen3-heads-tied", "llama-heads"},
    "transformers": set(),
}
GROUPED = {name for name in CASES if name.startswith("qwen3")} | set(OTHERS)
"""Families that vLLM runs in its Transformers backend."""


@pytest.mark.parametrize("engine", ["transformers", "llama_cpp", "mlx"])
def test_every_family_runs_or_is_refused(made: tuple[str, Made], engine, tmp_path: Path) -> None:
    name, child = made
    if name in REFUSED[engine]:
        with pytest.raises(DiagnosticError) as caught:
            prepare(from_directory(child.child), child.child, engine, tmp_path)
        kinds = RuntimeLacksIt | RuntimeLacksWindow | RuntimeLacksFamily
        assert all(isinstance(d, kinds) for d in caught.value.diagnostics)
        return
    path = prepare(from_directory(child.child), child.child, engine, tmp_path)
    _, found = run(engine, request_for(path, child.prompt))
    assert np.abs(found["logits.0.0"] - child.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == child.greedy
    assert len(child.greedy) == STEPS


def test_what_vllm_is_given_computes_the_same_in_transformers(made: tuple[str, Made], tmp_path: Path) -> None:
    """vLLM itself runs in the slow tests; its own model refuses what it would get wrong."""
    name, child = made
    if name in REFUSED["vllm"]:
        with pytest.raises(DiagnosticError):
            choose(from_directory(child.child), RUNTIMES["vllm"])
        return
    engine = choose(from_directory(child.child), RUNTIMES["vllm"])
    assert engine.grouped == (name in GROUPED)
    path = prepare(from_directory(child.child), child.child, "vllm", tmp_path)
    _, found = run("transformers", request_for(path, child.prompt))
    assert np.abs(found["logits.0.0"] - child.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == child.greedy
