"""The same variants in vLLM, whose environment `make vllm` makes: `make test-slow` then runs them."""

from __future__ import annotations

import numpy as np
import pytest

from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.export.engines.ask import Answer, ask, python_of
from puzzledsl.export.prepare import prepare
from puzzledsl.export.verify import log_softmax
from tests.export.test_families import PARENTS
from tests.export.variants import MIXTURE, STEPS, TOLERANCE, VARIANTS, Made, Variant, make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
HEAD = {"head_dim": 32, "hidden": 64}
"""vLLM's attention on the CPU takes heads of 32 numbers and more. Here hidden / heads is 16."""
CASES = {
    name: Variant(v.layers, v.family, v.sizes | {k: x for k, x in HEAD.items() if k not in v.sizes})
    for name, v in VARIANTS.items()
} | {
    f"{name}-mixture": Variant(MIXTURE, family, {**sizes, **HEAD})
    for name, (family, sizes) in PARENTS.items()
    if family in ("mistral", "qwen2")
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Made, np.ndarray, list[int]]]:
    """Every variant in one process of vLLM; each has a prompt of its own, so each is asked all prompts."""
    if python_of("vllm") is None:
        pytest.skip("vLLM is not installed: run `make vllm`")
    root = tmp_path_factory.mktemp("vllm")
    made = {name: make(variant, root / name) for name, variant in CASES.items()}
    paths = [prepare(from_directory(m.child), m.child, "vllm", root / name) for name, m in made.items()]
    prompts = sorted({tuple(m.prompt) for m in made.values()})
    answer = ask("vllm", paths, prompts, steps=STEPS, context=128)
    assert isinstance(answer, Answer), answer
    found = {}
    for index, (name, m) in enumerate(made.items()):
        prompt = prompts.index(tuple(m.prompt))
        found[name] = (m, answer.logits[index][prompt], answer.greedy[index][prompt])
    return found


@pytest.mark.parametrize("name", CASES)
def test_vllm_computes_what_the_oracle_does(answers, name: str) -> None:
    made, found, greedy = answers[name]
    delta = np.abs(found - log_softmax(made.logits)).max()
    print(f"{name}: {delta:.2e}")
    assert delta <= TOLERANCE
    assert greedy == made.greedy
