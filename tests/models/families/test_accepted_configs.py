"""Property: what the checker accepts of a config.json, transformers builds, with the weights that the shape says."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import FAMILIES, shape_of_config
from puzzledsl.ir.facts import total_params
from tests.families.test_corrupted_configs import SOUND, fields_of

KINDS = ("default", "linear", "dynamic", "yarn", "llama3", None)
ROPES: list[Any] = [
    *({"rope_type": kind, "factor": 2.0} for kind in KINDS),
    {"type": "linear", "factor": 2.0},
    {"full_attention": {"rope_type": "linear", "factor": 3.0}, "sliding_attention": {"rope_type": "default"}},
    *(
        {"rope_type": "longrope", "short_factor": [1.0] * n, "long_factor": [2.0] * n}
        | {"original_max_position_embeddings": 32}
        for n in (4, 8)
    ),
]
LAYERS: list[Any] = [
    *([word] * 4 for word in ("full_attention", "sliding_attention", "linear_attention")),
    ["linear_attention", "full_attention"] * 2,
    *([1, 0, 1, 1], [True] * 4, [0, 3], "M-*E", "MMMM"),
]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 9), st.sampled_from([16, 64, 0.5, 2.5, "", "silu", "relu", "swish", [], {}]),
    st.sampled_from(ROPES), st.sampled_from(LAYERS),
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_accepted_can_be_built(family: str, data: st.DataObject) -> None:
    content = SOUND | {
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    for field in data.draw(st.lists(st.sampled_from(fields_of(family)), min_size=1, max_size=2, unique=True)):
        content[field] = data.draw(VALUES)
    try:
        shape = shape_of_config(content | {"model_type": family})
    except BadConfig:
        return
    config = CONFIG_MAPPING[family](**json.loads(json.dumps(content)))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    held = {id(weight): weight.numel() for weight in model.parameters()}
    held |= {id(b): b.numel() for name, b in model.named_buffers() if name.endswith("correction_bias")}
    assert sum(held.values()) == total_params(shape)


def test_a_number_of_experts_under_two_names_is_one_number() -> None:
    """transformers takes whichever name stands last: a file in which they differ means nothing."""
    content = SOUND | {"model_type": "nemotron_h", "num_local_experts": 8}
    assert shape_of_config(content | {"n_routed_experts": 8}).each[-1].experts == 8
    with pytest.raises(BadConfig, match="n_routed_experts is 2 and num_local_experts, its other name, is 8"):
        shape_of_config(content | {"n_routed_experts": 2})
