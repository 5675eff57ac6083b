"""Sizes of models that exist, to the parameter: heterogeneous ones from their published configurations, and the std
parents against transformers' own modules on the meta device."""

import json
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.costs.flops import fixed_size
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.table import cost_table
from puzzledsl.families.config import LETTERS
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import LayerChoice, Shape
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.models.families.access import layers, part_of, shape_of
from tests.cases import more
from tests.costs.cases import LLAMA_70B, PROFILES, SHAPES, program

NEMOTRON = json.loads((Path(__file__).parent / "nemotron.json").read_text("utf-8"))["models"]
BILLIONS = {"Llama-3.3-Nemotron-Super-49B": 49.8671, "Llama-3.1-Nemotron-Ultra-253B": 253.4013}
FEW = [*{shape.family: name for name, shape in SHAPES.items()}.values()]
"""One of each family."""


def shape_of_nemotron(config: dict) -> Shape:  # type: ignore[type-arg]
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    sizes = {
        "layers": len(config["block_configs"]),
        "hidden": hidden,
        "heads": heads,
        "head_dim": hidden // heads,
    }
    width = 28672 if hidden == 8192 else 53248
    words = {"vocab": config["vocab_size"], "tied": config["tie_word_embeddings"]}
    return LLAMA_70B.model_copy(update={**sizes, **words, "intermediate": width})


def block(config: dict, layer: int) -> tuple[AttentionAlternative, FfnAlternative]:  # type: ignore[type-arg]
    """Read an entry of `block_configs`: KV heads by the size of a group, width by the multiple, to the next 256."""
    group, multiple = config["block_configs"][layer]
    width = None if multiple is None else -(-int(2 * multiple * config["hidden_size"] / 3) // 256) * 256
    return (
        NoOpAttention() if group is None else GqaAttention(kv_heads=config["num_attention_heads"] // group),
        NoOpFfn() if width is None else MlpFfn(width=width),
    )


@pytest.mark.parametrize("name", NEMOTRON)
def test_published_heterogeneous_models_have_their_published_size(name: str) -> None:
    config = NEMOTRON[name]
    shape = shape_of_nemotron(config)
    blocks = [block(config, layer) for layer in range(shape.layers)]
    choices = tuple(LayerChoice(attention=(a,), ffn=(f,)) for a, f in blocks)
    hardware = PROFILES["h200"].model_copy(update={"gpus": 8})
    table = cost_table(program(shape, choices, chat=(hardware, (1,), 64, 64)), "wide")
    child = [LayerAssignment(attention=a.name, ffn=f.name) for a, f in blocks]
    params = table.params_fixed + sum(
        table.params_attention[i][c.attention] + table.params_ffn[i][c.ffn] for i, c in enumerate(child)
    )
    assert round(params / 10**9, 4) == BILLIONS[name]
    assert params == facts.fixed_params(shape) + sum(piece.params(shape) for pair in blocks for piece in pair)
    norms = shape.hidden * (1 + sum(bool(piece.params(shape)) for pair in blocks for piece in pair))
    weights = metrics_of(table.scenarios["chat"][0], child)["weights"]
    assert weights == 2 * ((params - norms) // 8 + norms)  # bf16 over eight GPUs, the norms on each


EXPERTS = {"num_experts_per_tok": "top_k", "moe_intermediate_size": "expert_width"}
STATE = {"heads": "num_value_heads", "head_dim": "value_head_dim", "groups": "num_key_heads"}
STATE |= {"state": "key_head_dim", "conv": "conv_kernel_dim"}


def named(of: object, names: dict[str, str]) -> dict[str, object]:
    return {word: getattr(of, field) for word, field in names.items()}


def words_of(shape: Shape) -> dict[str, object]:
    """Fields of a family's configuration beyond the usual ones."""
    state = shape.state
    delta = (
        {} if state is None else {f"linear_{word}": getattr(state, field) for field, word in STATE.items()}
    )
    match shape.family:
        case "mistral" | "gemma3_text" | "phi3":
            return {"sliding_window": max((own.window for own in shape.each if own.window), default=None)}
        case "gpt_oss":
            names = {"num_local_experts": "experts", "num_experts_per_tok": "top_k"}
            return named(shape, names | {"intermediate_size": "expert_width"}) | {
                "sliding_window": shape.at(0).window
            }
        case "qwen3_moe":
            return named(shape, {"num_experts": "experts"} | EXPERTS)
        case "qwen3_next" | "qwen3_5_moe_text":
            more = {"num_experts": "experts", "shared_expert_intermediate_size": "shared_width"}
            return named(shape, more | EXPERTS) | delta
        case "qwen3_5_text":
            return delta
        case "nemotron_h":
            letters = {kind["mixer"] + kind["ffn"]: letter for letter, kind in LETTERS.items()}
            more = {"n_routed_experts": "experts", "moe_shared_expert_intermediate_size": "shared_width"}
            sizes = {"mamba_num_heads": "heads", "mamba_head_dim": "head_dim", "n_groups": "groups"}
            sizes |= {"ssm_state_size": "state", "conv_kernel": "conv"}
            mixture = {word: size or 8 for word, size in named(shape, more | EXPERTS).items()}
            pattern = "".join(letters[own.mixer + own.ffn] for own in shape.each)
            return mixture | named(state, sizes) | {"hybrid_override_pattern": pattern}
        case _:
            return {}


def on_meta(shape: Shape) -> PreTrainedModel:
    """Transformers' model of a shape, without weights."""
    usual = {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate or 64,
        "vocab_size": shape.vocab,
        "tie_word_embeddings": shape.tied,
    }
    config = CONFIG_MAPPING[shape.family](**(usual | words_of(shape)))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def stored(module: torch.nn.Module) -> list[torch.Tensor]:
    """A module's parameters, and the buffers of its checkpoint: a router's correction."""
    return [*module.state_dict(keep_vars=True).values()]


@pytest.mark.parametrize("name", [*FEW, *more(*(name for name in SHAPES if name not in FEW))])
def test_std_parents_have_the_size_of_transformers_models(name: str) -> None:
    shape = SHAPES[name]
    model = on_meta(shape)
    assert shape_of(model.config) == shape
    tensors = {id(tensor): tensor.numel() for tensor in stored(model)}  # tied ones are one
    assert facts.total_params(shape) == sum(tensors.values())
    for own, (first, *_) in shape.kinds():
        layer, counted = layers(model)[first], 0
        for alternative in (ParentAttention(), ParentFfn()):
            size, part = alternative.size(own), part_of(layer, alternative.sub_block)
            assert (part is None) == (size.params == 0)
            if part is None:
                continue
            modules = [getattr(layer, name) for name in (part.module, *part.norms)]
            tensors_here = [tensor for module in modules for tensor in stored(module)]
            assert size.params == sum(tensor.numel() for tensor in tensors_here)
            if alternative.alone(own).routing == (1, 1):
                assert size.matrices == sum(t.numel() for t in tensors_here if t.ndim > 1)
            counted += size.params
        assert counted == sum(tensor.numel() for tensor in stored(layer))
    assert fixed_size(shape).params == sum(
        p.numel() for n, p in model.named_parameters() if ".layers." not in n
    )
