"""Nemotron-H (arXiv 2504.03624): one sub-block a layer; attention without positions, FFNs and experts without gates."""

from puzzledsl.alternatives.shape import Shape, StateShape
from puzzledsl.families.config import LETTERS, MAX_LAYERS, MAX_VOCAB, BadConfig, Config, by_pattern, shown
from puzzledsl.families.family import Family, Mixture, Names, Part

WORDS = {
    "linear_attention": "M",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
    "mamba": "M",
    "attention": "*",
}
"""Word of `layers_block_type` -> letter of a pattern; the last two are older."""
REFUSED = ("tie_word_embeddings", "attention_bias", "use_bias", "mamba_proj_bias", "mlp_bias")
"""Flags that no published checkpoint sets, and that transformers reads in part or not at all."""


def _read(config: Config) -> Shape:
    for flag in REFUSED:
        if config.flag(flag):
            raise BadConfig(f"{flag} is true, which is not supported for nemotron_h")
    if not config.flag("use_conv_bias", True):
        raise BadConfig("use_conv_bias is false, which is not supported for nemotron_h")
    if config.has("moe_latent_size"):
        size = shown(config.content["moe_latent_size"])
        raise BadConfig(f"moe_latent_size is {size}; experts of a latent size are not supported")
    if (groups := config.given("n_group", 1)) > 1:
        raise BadConfig(f"n_group is {groups}; experts that are chosen by group are not supported")
    experts = config.given("n_routed_experts", 8)
    if config.content.get("num_local_experts", experts) != experts:
        other = shown(config.content["num_local_experts"])
        raise BadConfig(f"n_routed_experts is {experts} and num_local_experts, its other name, is {other}")
    heads = config.given("num_attention_heads", 32)
    pattern = _pattern(config)
    shape = Shape(
        family="nemotron_h",
        layers=len(pattern),
        hidden=config.whole("hidden_size"),
        heads=heads,
        kv_heads=config.given("num_key_value_heads", 8),
        head_dim=config.given("head_dim", 128),
        intermediate=config.given("intermediate_size", 21504),
        vocab=config.whole("vocab_size", MAX_VOCAB),
        tied=False,
        experts=experts,
        top_k=config.given("num_experts_per_tok", 2),
        expert_width=config.given("moe_intermediate_size", 7688),
        shared_width=config.given("moe_shared_expert_intermediate_size", 7688),
        router_bias=True,
        gated=False,
        rope=False,
        state=StateShape(
            heads=config.given("mamba_num_heads", 128),
            head_dim=config.given("mamba_head_dim", 64),
            groups=config.given("n_groups", 8),
            state=config.given("ssm_state_size", 128),
            conv=config.given("conv_kernel", 4),
        ),
    )
    return shape.with_layers(by_pattern(pattern))


def _pattern(config: Config) -> str:
    """Return one letter a layer, from `layers_block_type` or, without it, `hybrid_override_pattern`. Raises BadConfig."""
    words = config.content.get("layers_block_type")
    if words is None:
        pattern = config.content.get("hybrid_override_pattern")
        if not isinstance(pattern, str) or not pattern or set(pattern) - set(LETTERS):
            why = f"and should have a letter of {' '.join(LETTERS)} a layer"
            raise BadConfig(f"hybrid_override_pattern is {shown(pattern)}, {why}")
    elif not (isinstance(words, list) and words and all(isinstance(w, str) and w in WORDS for w in words)):
        raise BadConfig(f"layers_block_type is {shown(words)}; known words are {', '.join(WORDS)}")
    else:
        pattern = "".join(WORDS[word] for word in words)
    said = config.optional("num_hidden_layers", len(pattern), len(pattern))
    if said != len(pattern) or said > MAX_LAYERS:
        raise BadConfig(f"num_hidden_layers is {said}, and {len(pattern)} layers are listed")
    return pattern


def _names(shape: Shape) -> Names:
    """Return the names of the layer's only sub-block."""
    if shape.mixer == "none":
        return Names(attention=None, ffn=Part("mixer", "norm"))
    return Names(attention=Part("mixer", "norm", pair=shape.mixer == "attention"), ffn=None)


FAMILY = Family(
    "nemotron_h",
    "NemotronH",
    whole_shape=_read,
    literal={"mixer": "mamba2", "router_bias": True, "gated": False, "rope": False},
    takes=("pattern", "mixer", "experts", "top_k", "expert_width", "shared_width"),
    names=_names,
    activation=("mlp_hidden_act", "relu2"),
    embedding="model.embeddings",
    final_norm="model.norm_f",
    published={"backbone.": "model."},
    mixture=Mixture(
        block="MoE",
        count="n_routed_experts",
        renamed={"gate.bias": "gate.e_score_correction_bias", "shared_expert.": "shared_experts."},
        exact=("gate.bias",),
    ),
)
