"""Checkpoints of mixtures: each form that experts are stored in gives the same model, and a damaged one is told by name."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.registry import FAMILIES
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config, load_parent
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.families.stored import as_parameters, dequantised, select
from puzzledsl.models.families.tensors import LazyTensor, open_weights
from puzzledsl.models.placement import paged_parent
from tests.tiny import MIXTURES, save_tiny, tiny_model, tiny_tokens

Tensors = dict[str, Tensor]
FUSED = "model.layers.0.mlp.experts.gate_up_proj"


@pytest.fixture
def parent(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return save_tiny(tmp_path / "parent", request.param)


def change(parent: Path, edit: Callable[[Tensors], None]) -> None:
    """Rewrite the weights of a checkpoint."""
    tensors = load_file(parent / "model.safetensors")
    edit(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, parent / "model.safetensors")


def shorten(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name][1:]


def reasons(parent: Path) -> str:
    """Return the messages of loading a checkpoint that cannot be loaded."""
    with pytest.raises(DiagnosticError) as caught:
        load_parent(parent)
    assert {diagnostic.code for diagnostic in caught.value.diagnostics} <= {"E0702", "E0704"}
    return "\n".join(diagnostic.message for diagnostic in caught.value.diagnostics)


@pytest.mark.parametrize("parent", MIXTURES, indirect=True)
def test_loading_is_bit_identical_to_transformers(parent: Path) -> None:
    stock: Any = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32).eval()
    for weight in stock.parameters():
        weight.data = weight.data.clone()  # in the file it may be unaligned, and summed in another order
    ours, tokens = load_parent(parent), tiny_tokens()
    paged, _ = paged_parent(parent, room_bytes=0)
    assert ours.config._experts_implementation == stock.config._experts_implementation
    for name, weight in stock.named_parameters():
        assert torch.equal(weight, ours.get_parameter(name)), name
    logits = stock(tokens).logits
    assert torch.equal(ours(tokens).logits, logits) and torch.equal(paged(tokens).logits, logits)


@pytest.mark.parametrize("parent", MIXTURES, indirect=True)
def test_canonical_weights_and_fused_parameters_are_the_same_thing(parent: Path) -> None:
    config = load_config(parent)
    shape, model = shape_of(config), load_parent(parent)
    weights = select(parent, shape, open_weights(parent))
    assert weights_of(model).keys() == weights.keys()
    for name, weight in weights_of(model).items():
        assert tuple(weight.shape) == weights[name].shape and torch.equal(weight, weights[name].read()), name
    parameters = as_parameters(weights, FAMILIES[shape.family])
    assert sorted(parameters) == sorted(name for name, _ in model.named_parameters())
    for name, parameter in parameters.items():
        assert torch.equal(parameter.read(), model.get_parameter(name)), name
        assert torch.equal(torch.cat(list(parameter.chunks())), model.get_parameter(name))
    again = select(parent, shape, parameters)
    assert all(torch.equal(again[name].read(), weight.read()) for name, weight in weights.items())


@pytest.mark.parametrize("family", MIXTURES)
def test_a_sub_block_s_weights_go_in_and_out(family: str) -> None:
    one, other = tiny_model(family, seed=1), tiny_model(family, seed=2)
    for source, target in zip(one.model.layers, other.model.layers, strict=True):
        load_weights_into(target.mlp, weights_of(source.mlp))
        for name, weight in source.mlp.state_dict().items():
            assert torch.equal(weight, target.mlp.state_dict()[name])
    with pytest.raises(KeyError, match=r"experts\.0\.down_proj"):
        load_weights_into(other.model.layers[0].mlp, {"gate.weight": torch.zeros(1)})


def test_an_expert_is_read_alone(tmp_path: Path) -> None:
    save_file({"a": torch.arange(24.0).reshape(4, 3, 2)}, tmp_path / "model.safetensors")
    tensor = open_weights(tmp_path)["a"]
    assert torch.equal(tensor.rows(2, 3), tensor.read()[2:3])
    assert torch.equal(tensor.cast(torch.bfloat16).rows(1, 3), tensor.read()[1:3].bfloat16())
    assert torch.equal(LazyTensor.of(tensor.read()).rows(1, 2), tensor.read()[1:2])


# ---------------------------------------------------------------- MXFP4


def quantise(tensors: Tensors, generator: torch.Generator) -> None:
    """Replace gpt-oss's fused experts by random blocks of MXFP4."""
    for name in [name for name in tensors if re.search(r"experts\.\w+_proj$", name)]:
        experts, inputs, outputs = tensors.pop(name).shape
        size = (experts, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(256, (*size, 16), generator=generator, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 127, size, generator=generator, dtype=torch.uint8)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    parent = save_tiny(tmp_path / "parent", "gpt_oss", hidden=32, intermediate=64)
    change(parent, lambda tensors: quantise(tensors, torch.Generator().manual_seed(0)))
    content = json.loads((parent / "config.json").read_text())
    content["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (parent / "config.json").write_text(json.dumps(content))
    return parent


def test_mxfp4_is_dequantised_as_it_is_read(packed: Path) -> None:
    stored, model = load_file(packed / "model.safetensors"), load_parent(packed)
    assert not hasattr(model.config, "quantization_config")
    for name, parameter in model.named_parameters():
        if f"{name}_blocks" in stored:
            theirs = convert_moe_packed_tensors(stored[f"{name}_blocks"], stored[f"{name}_scales"])
            assert torch.equal(theirs.float(), parameter)
        else:
            assert torch.equal(stored[name], parameter)
    assert model(tiny_tokens()).logits.isfinite().all()


MISFITS: dict[str, Callable[[Tensors], Any]] = {
    f"`{FUSED}_scales` is missing": lambda t: t.pop(FUSED + "_scales"),
    f"`{FUSED}_blocks` is missing": lambda t: t.pop(FUSED + "_blocks"),
    f"`{FUSED}` is there twice": lambda t: t.update({FUSED: t["lm_head.weight"]}),
    f"`{FUSED}_scales` is [5, 128, 1], and should be [6, 128, 1]": lambda t: shorten(t, FUSED + "_scales"),
    f"`{FUSED}_blocks` is [6, 128, 1, 16], and should be [6, 128, 1, 16] of uint8": (
        lambda t: t.update({FUSED + "_blocks": t[FUSED + "_blocks"].float()})
    ),
}


@pytest.mark.parametrize("reason", MISFITS)
def test_mxfp4_that_does_not_fit_is_told(packed: Path, reason: str) -> None:
    change(packed, MISFITS[reason])
    assert reason in reasons(packed)


def test_other_quantisations_are_refused_by_name(packed: Path) -> None:
    content = json.loads((packed / "config.json").read_text())
    content["quantization_config"] = {"quant_method": "gptq"}
    (packed / "config.json").write_text(json.dumps(content))
    assert 'quantised by "gptq"' in reasons(packed)


def test_mxfp4_equals_transformers_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, blocks, dtype in itertools.product((1, 6), (1, 3), (torch.bfloat16, torch.float32)):
        packed = torch.randint(256, (4, rows, blocks, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(5, 250, (4, rows, blocks), generator=generator, dtype=torch.uint8)
        theirs = convert_moe_packed_tensors(packed, scales, dtype=dtype)
        assert torch.equal(dequantised(packed, scales, dtype).transpose(1, 2), theirs)
    none, scales = torch.zeros(1, 2, 16, dtype=torch.uint8), torch.tensor([[255, 0]], dtype=torch.uint8)
    values = dequantised(none, scales, torch.bfloat16)  # a scale of 255 is not a number
    assert values[0, :32].isnan().all() and (values[0, 32:] == 0).all()


# ---------------------------------------------------------------- what does not fit


LAYER = "model.layers.0.mlp.experts"
UNFIT: list[tuple[str, Callable[[Tensors], Any], str]] = [
    ("qwen3_moe", lambda t: t.pop(f"{LAYER}.5.up_proj.weight"), f"1 missing weights ({LAYER}.5.up_proj.weight)"),
    ("qwen3_moe", lambda t: t.update({FUSED: torch.zeros(6, 32, 24)}), f"`{LAYER}.0.gate_proj.weight` is there twice"),
    ("gpt_oss", lambda t: t.update(extra=torch.zeros(1)), "1 unexpected weights (extra)"),
    ("gpt_oss", lambda t: shorten(t, FUSED), f"`{FUSED}` is [5, 24, 80], and should be [6, 24, 80]"),
    ("gpt_oss", lambda t: t.pop("model.layers.1.self_attn.sinks"), "1 missing weights (model.layers.1.self_attn.sinks)"),
]  # fmt: skip


@pytest.mark.parametrize(("parent", "edit", "reason"), UNFIT, indirect=["parent"])
def test_weights_that_do_not_fit_are_told(parent: Path, edit: Callable[[Tensors], None], reason: str) -> None:
    change(parent, edit)
    assert reason in reasons(parent)


def test_a_name_that_a_file_has_twice_is_told(tmp_path: Path) -> None:
    parent = save_tiny(tmp_path / "parent", "qwen3_moe")
    path = parent / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    one, other = b"experts.1.up_proj.weight", b"experts.2.up_proj.weight"
    header = header.replace(b'"model.layers.0.mlp.' + other, b'"model.layers.0.mlp.' + one)
    path.write_bytes(data[:8] + header + data[8 + length :])
    with pytest.raises(DiagnosticError, match=r"has `model.layers.0.mlp.experts.1.up_proj.weight` twice"):
        load_parent(parent)
