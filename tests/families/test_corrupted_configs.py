"""Sound configs of every family, what corrupts them, and families that are refused with the reason."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import strategies as st

from puzzledsl.families.config import BadConfig, Config
from puzzledsl.families.registry import FAMILIES, computation_of, shape_of_config
from puzzledsl.ir.facts import total_params

SOUND: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 256,
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "hybrid_override_pattern": "M-*E",
    "sliding_window": 32,
}
"""Fields that make a config.json of any family sound."""


class _Noting(Mapping[str, Any]):
    """A content that notes which fields are read."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content, self.read = content, set[str]()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


def fields_of(family: str) -> list[str]:
    content = _Noting(SOUND)
    shape = FAMILIES[family].shape(Config(content))
    computation_of(FAMILIES[family], Config(content), shape)
    return sorted(content.read)


WORDS = (
    *("rope_type", "factor", "linear", "yarn", "longrope", "silu", "relu"),
    *("sliding_attention", "full_attention", "linear_attention", "moe", "mlp", "E", "M*", "-", "none"),
)
NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([2**14, 2**31, 2**62, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(WORDS), inner, max_size=2)),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_config_is_read(family: str) -> None:
    shape = shape_of_config(SOUND | {"model_type": family})
    assert (shape.family, shape.layers) == (family, 4)
    assert 0 < total_params(shape, "active_params") <= total_params(shape)


REFUSED = {
    **dict.fromkeys(
        ("gemma4", "gemma4_text", "gemma4_unified"), "each layer of Gemma 4 multiplies the whole stream"
    ),
    "gpt2": "known families are .*llama.*qwen3_moe",
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_families_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(BadConfig, match=f'model_type is "{name}".*{REFUSED[name]}'):
        shape_of_config(SOUND | {"model_type": name})
