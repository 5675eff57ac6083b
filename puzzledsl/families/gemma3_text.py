"""Gemma 3, text: norms before and behind the sub-blocks, windows in most layers, and a scaled embedding."""

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import KINDS, MAX_WINDOW, BadConfig, Config, every, shown, windowed
from puzzledsl.families.family import BIASES, Family, Names, Part, Sizes, fields_of

UNSUPPORTED = {
    "final_logit_softcapping": (),
    "attn_logit_softcapping": (),
    "use_bidirectional_attention": (False,),
}
"""Field that is not supported, and that no published Gemma 3 sets -> its values, beside null, that are accepted."""


DEFAULTS = {"num_attention_heads": 8, "vocab_size": 262_208}
"""Sizes missing in the text part of published 4B models, with the values that transformers' class takes."""


def _read(config: Config) -> Shape:
    config = Config({**DEFAULTS, **config.content})
    for name, unused in UNSUPPORTED.items():
        if config.has(name) and config.content[name] not in unused:
            raise BadConfig(f"{name} is {shown(config.content[name])}, which is not supported")
    shape = Shape(**fields_of(FAMILY, config))
    window = config.optional("sliding_window", 4096, 0, MAX_WINDOW)
    if not window:
        raise BadConfig("sliding_window is null")
    kinds = config.words("layer_types", KINDS, shape.layers)
    if kinds is None:
        interval = config.given("sliding_window_pattern", 6)
        kinds = tuple(KINDS[not full] for full in every(shape.layers, interval))
    return windowed(shape, kinds, window)


NAMES = Names(
    attention=Part("self_attn", "input_layernorm", "post_attention_layernorm", pair=True),
    ffn=Part("mlp", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
)
FAMILY = Family(
    "gemma3_text",
    "Gemma3",
    Sizes(BIASES, 256, 4, ("head_dim", "num_key_value_heads")),
    whole_shape=_read,
    literal={"qk_norm": True, "norms": 2, "full_every": 6, "tied": True},
    takes=("tied", *BIASES, "window", "full_every"),
    names=lambda shape: NAMES,
    whole_heads=True,
    ropes_of_kinds=True,
    activation=("hidden_activation", "gelu_pytorch_tanh"),
    whole="gemma3",
    published={
        "language_model.model.": "model.",
        "language_model.lm_head.": "lm_head.",
        "model.language_model.": "model.",
    },
    others=tuple(
        f"{start}{part}" for start in ("", "model.") for part in ("vision_tower.", "multi_modal_projector.")
    ),
    package="gemma3",
    config_prefix="Gemma3Text",
)
