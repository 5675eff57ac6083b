"""The same variants in vLLM, whose environment `make vllm` makes: `make test-slow` then runs them."""

from pathlib import Path

import numpy as np
import pytest

from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.export.engines.ask import Answer, ask, python_of
from puzzledsl.export.verify import log_softmax, prepare
from tests.export.test_storage_types import unquantised
from tests.export.variants import (
    G1,
    MIXTURE,
    MOE,
    NA,
    NF,
    OF_PARENTS,
    OTHERS,
    STEPS,
    TOLERANCE,
    VARIANTS,
    A,
    F,
    M,
    Made,
    Variant,
    make,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
HEAD = {"head_dim": 32, "hidden": 64}
"""vLLM's attention on the CPU takes heads of 32 numbers and more. Here hidden / heads is 16."""
CASES = {
    name: Variant(v.layers, v.family, HEAD | v.sizes)
    for name, v in (VARIANTS | {n: OF_PARENTS[n] for n in ("mistral-mixture", "qwen2-mixture")}).items()
}
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64,
    "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
}  # fmt: skip
GROUPED = {
    "qwen3-yarn": Variant(((A, F), (NA, M), (G1, F)), "qwen3", HEAD | {"rope_parameters": YARN}),
    "qwen3-linear-rope": Variant(((A, F), (G1, M)), "qwen3", HEAD | VARIANTS["linear_rope"].sizes),
    "qwen3-mixture": Variant(MIXTURE, "qwen3", HEAD),
    "qwen3-tied": Variant(((NA, F), (G1, M), (A, NF)), "qwen3", HEAD | {"tied": True}),
} | {
    name: Variant(v.layers, v.family, v.sizes | HEAD)
    for name, v in (OTHERS | MOE).items()
    if name not in ("mistral-window", "qwen3-two-windows", "qwen3-first-tokens")
}
"""Families that its Transformers backend runs, with the code in the directory."""
Answers = dict[str, tuple[Made, np.ndarray, list[int]]]


def answers(cases: dict[str, Variant], root: Path) -> Answers:
    """Every variant in one process of vLLM; each has a prompt of its own, so each is asked all prompts."""
    if python_of("vllm") is None:
        pytest.skip("vLLM is not installed: run `make vllm`")
    made = {name: make(variant, root / name) for name, variant in cases.items()}
    paths = [prepare(from_directory(m.child), m.child, "vllm", root / name) for name, m in made.items()]
    prompts = sorted({tuple(m.prompt) for m in made.values()})
    answer = ask("vllm", paths, prompts, steps=STEPS, context=128)
    assert isinstance(answer, Answer), answer
    found = {}
    for index, (name, m) in enumerate(made.items()):
        prompt = prompts.index(tuple(m.prompt))
        found[name] = (m, answer.logits[index][prompt], answer.greedy[index][prompt])
    return found


@pytest.fixture(scope="module")
def of_its_model(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return answers(CASES, tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="module")
def of_the_backend(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return answers(GROUPED, tmp_path_factory.mktemp("vllm"))


@pytest.mark.parametrize("name", [*CASES, *GROUPED])
def test_vllm_computes_what_the_oracle_does(request: pytest.FixtureRequest, name: str) -> None:
    answers = request.getfixturevalue("of_its_model" if name in CASES else "of_the_backend")
    made, found, greedy = answers[name]
    delta = np.abs(found - log_softmax(made.logits)).max()
    print(f"{name}: {delta:.2e}")
    assert delta <= TOLERANCE
    assert greedy == made.greedy


def test_a_compressed_child_is_as_near_as_its_weights_in_bfloat16(tmp_path: Path) -> None:
    """On the CPU it has 4-bit kernels alone, in bfloat16; uncompressed, the same weights are 2.2 times as near (1.1 and .5 %)."""
    if python_of("vllm") is None:
        pytest.skip("vLLM is not installed: run `make vllm`")
    layers = (
        (ParentAttention(dtype="int4"), ParentFfn(dtype="int4")),
        (G1, MlpFfn(width=64, dtype="int4")),
        (A, F),
    )
    made = make(Variant(layers, sizes=HEAD | {"intermediate": 96}), tmp_path)
    child = from_directory(made.child)
    plain = unquantised(child)
    paths = [
        prepare(each, made.child, "vllm", tmp_path / name, "bf16")
        for name, each in (("compressed", child), ("plain", plain))
    ]
    answer = ask("vllm", paths, [made.prompt], steps=2, context=128, dtype="bfloat16")
    assert isinstance(answer, Answer), answer
    wanted = log_softmax(made.logits)
    errors = [float(np.linalg.norm(logits[0] - wanted)) for logits in answer.logits]
    assert max(errors) <= 0.02 * float(np.linalg.norm(wanted)), errors
