"""Mixtures of different sizes in different layers, in every engine that can run them, against the float64 oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import ChildFiles, from_directory, from_parent
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.child.definition import RuntimeLacksFamily, RuntimeLacksIt
from puzzledsl.export.engines.ask import Answer, ask, python_of
from puzzledsl.export.engines.worker import run
from puzzledsl.export.lowering import choose, lower
from puzzledsl.export.verify import log_softmax, prepare
from puzzledsl.ir.engines import RUNTIMES, STEP35
from tests.children import Choice
from tests.export.test_engines import request_for
from tests.export.variants import G1, NF, PROMPTS, TOLERANCE, A, F, Made, clear_choices
from tests.oracle_forward import oracle_logits
from tests.tiny import EXPERTS, save_tiny

SIZES = EXPERTS["qwen3_moe"] | {"head_dim": 32, "hidden": 64, "scale": 0.15, "num_experts_per_tok": 2}


def moe(experts: int, top_k: int = 2, width: int = 16) -> MoeFfn:
    return MoeFfn(experts=experts, top_k=top_k, width=width)


CASES: dict[str, tuple[Choice, ...]] = {
    "parent": ((A, F), (A, F), (A, F)),
    "fewer": ((A, moe(3)), (A, F), (A, F)),
    "narrower": ((A, moe(4, width=8)), (G1, F), (A, moe(3))),
    "without": ((A, moe(5)), (A, F), (A, NF)),
    "fewer_a_token": ((A, moe(3, top_k=1)), (A, F), (A, F)),
    "alike": ((A, moe(4)), (A, F), (A, moe(4))),
}
"""The parent has 6 experts of 16 channels, of which a token has 2, in layers 0 and 2, and a dense FFN in layer 1."""


def smaller(parent: Path, layers: tuple[Choice, ...]) -> ChildFiles:
    """The parent with its first experts and channels, its first heads, and without what is removed."""
    child = from_parent(parent)
    weights = dict(child.weights)
    for index, (attention, ffn) in enumerate(layers):
        prefix = f"model.layers.{index}."
        wanted = attention.stored(child.shape) | {}
        sizes = {f"self_attn.{n}": s for n, s in wanted.items()} if attention != A else {}
        if ffn != F:
            removed = [n for n in weights if n.startswith((f"{prefix}mlp.", f"{prefix}post_attention_"))]
            stored = {f"{prefix}mlp.{n}": s for n, s in ffn.stored(child.shape.at(index)).items()}
            for name in removed if ffn == NF else [n for n in removed if ".mlp." in n and n not in stored]:
                del weights[name]
            sizes |= {n.removeprefix(prefix): s for n, s in stored.items()}
        for name, size in sizes.items():
            whole = weights[prefix + name].read()
            weights[prefix + name] = type(child.weights[prefix + "input_layernorm.weight"]).of(
                whole[tuple(slice(n) for n in size)].clone()
            )
    return replace(child, layers=layers, weights=weights)


@pytest.fixture(scope="module", params=list(CASES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Made]:
    return request.param, make(CASES[request.param], tmp_path_factory.mktemp(request.param))


def make(layers: tuple[Choice, ...], root: Path, **sizes: Any) -> Made:
    parent = save_tiny(root / "parent", "qwen3_moe", **SIZES | sizes)
    write_checkpoint(smaller(parent, layers), parent, root / "child", "")
    assert from_directory(root / "child").layers == layers
    for prompt in PROMPTS:
        if (greedy := clear_choices(root / "child", prompt)) is not None:
            return Made(parent, root / "child", prompt, oracle_logits(root / "child", prompt), greedy)
    raise AssertionError("no prompt whose continuation is clear")


@pytest.mark.parametrize("engine", ["transformers", "llama_cpp"])
def test_an_engine_computes_what_the_oracle_does(made: tuple[str, Made], engine, tmp_path: Path) -> None:
    name, child = made
    if engine == "llama_cpp" and name == "fewer_a_token":
        with pytest.raises(DiagnosticError) as caught:
            prepare(from_directory(child.child), child.child, engine, tmp_path)
        assert isinstance(caught.value.diagnostics[0], RuntimeLacksIt)
        return
    path = prepare(from_directory(child.child), child.child, engine, tmp_path)
    _, found = run(engine, request_for(path, child.prompt))
    print(f"{engine} {name}: {np.abs(found['logits.0.0'] - child.logits).max():.2e}")
    assert np.abs(found["logits.0.0"] - child.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == child.greedy


def test_what_vllm_is_given_computes_the_same_in_transformers(made: tuple[str, Made], tmp_path: Path) -> None:
    _, child = made
    path = prepare(from_directory(child.child), child.child, "vllm", tmp_path)
    _, found = run("transformers", request_for(path, child.prompt))
    assert np.abs(found["logits.0.0"] - child.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == child.greedy


@pytest.mark.parametrize(
    "layers", [((A, F), (A, NF), (A, F)), ((A, moe(4)), (A, moe(4)), (A, moe(4, width=8)))]
)
def test_llama_cpp_runs_parents_with_mixtures_alone(layers: tuple[Choice, ...], tmp_path: Path) -> None:
    """No layer has a dense FFN whose width a removed one would get. The router's weights need not add up to 1, if no layer has
    fewer experts than others."""
    child = make(layers, tmp_path, mlp_only_layers=[], norm_topk_prob=layers[0][1] == F)
    path = prepare(from_directory(child.child), child.child, "llama_cpp", tmp_path)
    _, found = run("llama_cpp", request_for(path, child.prompt))
    assert np.abs(found["logits.0.0"] - child.logits).max() <= TOLERANCE
    assert found["greedy.0.0"] == child.greedy


@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 0.01), ("bf16", 0.05), ("q8_0", 0.1)])
def test_narrow_dtypes(tmp_path: Path, dtype, tolerance: float) -> None:
    child = make(CASES["narrower"], tmp_path)
    path = prepare(from_directory(child.child), child.child, "llama_cpp", tmp_path, dtype)
    _, found = run("llama_cpp", request_for(path, child.prompt))
    error = np.linalg.norm(found["logits.0.0"] - child.logits) / np.linalg.norm(child.logits)
    assert error <= tolerance


def test_a_runtime_without_mixtures_refuses_the_family(tmp_path: Path) -> None:
    child = from_parent(save_tiny(tmp_path / "parent", "qwen3_moe", **SIZES))
    with pytest.raises(DiagnosticError) as caught:
        choose(child, RUNTIMES["mlx"])
    assert isinstance(caught.value.diagnostics[0], RuntimeLacksFamily)


def test_padding_needs_a_router_that_scales_to_one(tmp_path: Path) -> None:
    """Experts that are not there would take a part of the softmax over all."""
    parent = save_tiny(tmp_path / "parent", "qwen3_moe", **SIZES | {"norm_topk_prob": False})
    child = smaller(parent, CASES["fewer"])
    write_checkpoint(child, parent, tmp_path / "child", "")
    with pytest.raises(DiagnosticError) as caught:
        prepare(child, tmp_path / "child", "llama_cpp", tmp_path)
    assert isinstance(caught.value.diagnostics[0], RuntimeLacksIt)
    assert not list(tmp_path.glob("*.gguf"))


def test_a_removed_mixture_costs_llama_cpp_an_ffn_as_wide_as_the_dense_ones(tmp_path: Path) -> None:
    parent = save_tiny(tmp_path / "parent", "qwen3_moe", **SIZES)
    lowered = lower(smaller(parent, CASES["without"]), STEP35)
    assert [ffn.name for _, ffn in lowered.layers] == ["moe5k2w16", "parent", "mlp40"]
    assert not any(isinstance(ffn, NoOpFfn) for _, ffn in lowered.layers)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_vllm_runs_mixtures_of_different_sizes(tmp_path: Path) -> None:
    assert python_of("vllm") is not None, "run `make vllm`"
    children = {name: make(layers, tmp_path / name) for name, layers in CASES.items()}
    paths = [prepare(from_directory(m.child), m.child, "vllm", m.child.parent) for m in children.values()]
    prompts = sorted({tuple(m.prompt) for m in children.values()})
    answer = ask("vllm", paths, prompts, context=128)
    assert isinstance(answer, Answer), answer
    for index, (name, m) in enumerate(children.items()):
        at = prompts.index(tuple(m.prompt))
        delta = np.abs(answer.logits[index][at] - log_softmax(m.logits)).max()
        print(f"{name}: {delta:.2e}")
        assert delta <= TOLERANCE
        assert answer.greedy[index][at] == m.greedy
