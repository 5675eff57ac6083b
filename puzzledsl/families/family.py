"""Description of a model family: its reader of config.json, and the places of its modules and weights."""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.moe import MAX_EXPERTS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.frozen import Record
from puzzledsl.families.config import MAX_LAYERS, MAX_VOCAB, BadConfig, Config

BIASES = ("attention_bias", "output_bias")
"""Arguments of a `shape(…)` of a family whose attention has biases in all its maps or in none."""


class Part(Record):
    """Attributes of a layer that hold a sub-block's module and its norms. Names of their weights begin with them as well."""

    module: str
    before: str | None = None  # the norm of what the module reads; None: it reads the residual stream itself
    behind: str | None = None  # the norm of what the module gives to the residual stream
    pair: bool = False  # True if the module returns a tuple, whose first item is its output

    @property
    def norms(self) -> tuple[str, ...]:
        """Return the attributes of the norms."""
        return tuple(name for name in (self.before, self.behind) if name is not None)


class Names(Record):
    """The parts of a layer; None for a sub-block that the layer does not have."""

    attention: Part | None = Part("self_attn", "input_layernorm", pair=True)
    ffn: Part | None = Part("mlp", "post_attention_layernorm")
    factor: str | None = None
    """Attribute that holds the factor of everything that is added to the residual stream; None: 1."""

    def of(self, sub_block: SubBlock) -> Part | None:
        """Return the part of a sub-block."""
        return self.attention if sub_block == "attention" else self.ffn


class Mixture(Record):
    """Transformers' class of a mixture of experts, and names that families do not share."""

    block: str = "SparseMoeBlock"  # the end of the class's name
    count: str = "num_experts"  # field of config.json with the number of experts
    width: str = "moe_intermediate_size"  # field of config.json with the channels of an expert
    fused: Literal["stacked", "interleaved"] = "stacked"
    """Layout of fused experts: gate above up, [E, 2 W, H]; or gate and up in turn and transposed, [E, H, 2 W]."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Start of a canonical name inside the FFN -> start of transformers' name."""
    weights_sum_to_one: bool = True
    """False if a router's weights of the chosen experts do not add up to 1 where config.json is silent."""
    exact: tuple[str, ...] = ()
    """Canonical names inside the FFN of weights that stay in float32, whatever the checkpoint's dtype."""


class Sizes(Record):
    """Sizes that transformers takes where a config.json of a family is silent, and rules for reading its fields."""

    flags: tuple[str, ...] = ()  # fields for biases that config.json may have
    head_dim: int | None = None  # None: hidden / heads
    kv_heads: int | None = None  # None: all heads
    not_null: tuple[str, ...] = ("head_dim",)  # fields that may be missing and not be null
    dense: bool = True  # False if no layer has a dense FFN


SAME_IN_ALL = (
    *("attention_bias", "mlp_bias", "qk_norm", "qk_norm_whole", "norms", "sinks", "router_bias"),
    *("output_gate", "delta_maps", "shared_gate"),
)
"""Fields of a shape that a config.json takes from its family's `literal`, too, unless the family reads them from the file."""


class Family(Record):
    """A family. Its classes are transformers' own, in `transformers.models.{module}.modeling_{module}`."""

    model_type: str
    prefix: str  # start of its classes' names: `Llama` of LlamaForCausalLM, LlamaAttention, LlamaMLP
    sizes: Sizes = Sizes()  # its usual sizes
    read: Callable[[Config, dict[str, Any]], Shape] = lambda config, sizes: Shape(**sizes)
    """Return the shape that a config.json describes, from its content and its `fields_of`. Raises BadConfig."""
    whole_shape: Callable[[Config], Shape] | None = None
    """Return the shape that a config.json describes, in place of `read`, where its fields are too unlike. Raises BadConfig."""
    literal: Mapping[str, Any] = field(default_factory=dict)
    """Values that a `shape(…)` literal has without writing them: fields of a shape, and rules for layers (`config.laid_out`)."""
    takes: tuple[str, ...] = ("tied",)
    """Arguments that a `shape(…)` of it takes beside the usual ones (`families.registry`)."""
    names: Callable[[Shape], Names] = lambda shape: Names()
    """Return the names inside a layer of this (layer's) shape."""
    mixture: Mixture = Mixture()  # its mixtures of experts, if it has any
    whole_heads: bool = False
    """True if the hidden size must be a multiple of the number of query heads, whatever their width."""
    quantised: tuple[str, ...] = ()
    """Values of `quant_method` in config.json whose weights can be read, beside unquantised ones."""
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Projection of a sub-block that joins several -> the canonical projections whose rows it has, in order."""
    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    activation: tuple[str, str] = ("hidden_act", "silu")
    """Field of config.json with the activation of its FFNs, and the usual one."""
    ropes_of_kinds: bool = False  # True if kinds of layers may have rotary embeddings of their own
    ropes: Mapping[str, str] = field(default_factory=dict)
    """Scalings of rotary embeddings in its config.json -> transformers' name; empty: all that transformers has."""
    logits_divisor: str = ""  # field of its configuration by which the head's logits are divided; empty: 1
    published: Mapping[str, str] = field(default_factory=dict)
    """Start of a weight's name in published files -> start of its name in the model."""
    whole: str = ""
    """`model_type` of models that see pictures, too, whose `text_config` it describes; empty: none."""
    others: tuple[str, ...] = ()
    """Starts of names of weights in published files that are no part of the text model."""
    package: str = ""  # the folder of its classes in `transformers.models`, if it is not the model type
    config_prefix: str = ""
    """Start of its configuration's name, if it differs: `Gemma3Text` of Gemma3TextConfig."""

    def shape(self, config: Config) -> Shape:
        """Return the shape that a config.json describes. Raises BadConfig."""
        return self.whole_shape(config) if self.whole_shape else self.read(config, fields_of(self, config))

    @property
    def config(self) -> str:
        """Return the start of its configuration's name."""
        return self.config_prefix or self.prefix

    @property
    def module(self) -> str:
        """Return the folder of its classes in `transformers.models`."""
        return self.package or self.model_type


def fields_of(family: Family, config: Config) -> dict[str, Any]:
    """Return fields of a Shape from names that nearly all families share, and those that the family fixes. Raises BadConfig."""
    told = family.sizes
    for name in told.not_null:
        if name in config.content and not config.has(name):
            raise BadConfig(f"{name} is null")
    hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    if told.head_dim is None and config.content.get("head_dim") is None and hidden < heads:
        raise BadConfig(f"hidden_size is {hidden}, less than the number of heads, {heads}")
    bias = "attention_bias"  # one field says it of all maps of an attention
    return {
        **{name: value for name, value in family.literal.items() if name in SAME_IN_ALL},
        "family": family.model_type,
        "tied": config.flag("tie_word_embeddings", absent=family.literal.get("tied", False)),
        **{flag: config.flag(bias if flag in BIASES else flag) for flag in told.flags},
        "layers": config.whole("num_hidden_layers", MAX_LAYERS),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": config.optional("num_key_value_heads", told.kv_heads or heads, heads),
        "head_dim": config.optional("head_dim", told.head_dim or hidden // heads, hidden // heads),
        "intermediate": config.whole("intermediate_size") if told.dense else 0,
        "vocab": config.whole("vocab_size", MAX_VOCAB),
    }


def experts_fields(config: Config, *, experts: int, top_k: int) -> dict[str, Any]:
    """Return `ffn`, `experts` and `top_k` of a mixture; the arguments are defaults. Raises BadConfig if two names disagree."""
    names = [name for name in ("num_experts", "num_local_experts") if name in config.content]
    counts = [config.whole(name, MAX_EXPERTS) for name in names] or [experts]
    if len(set(counts)) > 1:
        raise BadConfig(" and ".join(f"{name} is {count}" for name, count in zip(names, counts, strict=True)))
    return {"ffn": "moe", "experts": counts[0], "top_k": config.given("num_experts_per_tok", top_k)}
