"""Description of a model family: its reader of config.json, and the places of its modules and weights.

The content of a config.json is read field by field as transformers reads it. Layers may differ from each other by a rule: every
n-th, the first n, or a pattern of letters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.moe import MAX_EXPERTS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.frozen import record

MAX_CONFIG_BYTES = 1 << 20
MAX_SIZE = 2**24
MAX_VOCAB = 2**26
MAX_LAYERS = 2_000
MAX_WINDOW = 2**40


class BadConfig(ValueError):
    """A config.json that cannot be used; the message gives the reason."""


def checkpoints_beside(path: Path, given: str) -> list[str]:
    """Return the directories with config.json where `path` would be, written as it was `given`."""
    try:
        found = sorted(p.name for p in path.parent.iterdir() if (p / "config.json").is_file())
    except (OSError, ValueError):  # no such directory; a name that no file can have
        return []
    return [given.rstrip("/").removesuffix(path.name) + name for name in found]


def config_path(folder: Path, id: str) -> Path:
    """Return the path of a checkpoint's config.json. `id` is relative to `folder`, or absolute."""
    return folder / id / "config.json"


def config_content(path: Path) -> dict[str, Any] | None:
    """Read a config.json; None if there is no such file. Raises BadConfig for one that is no JSON object."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise BadConfig(f"it cannot be read ({error.strerror})") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise BadConfig("it is larger than any config.json")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadConfig("it is not JSON") from error
    if not isinstance(config, dict):
        raise BadConfig("it is not a JSON object")
    return config


@record
class Config:
    """The fields of a config.json. Every method raises BadConfig for a value of the wrong kind."""

    content: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Return True if the field is there and not null."""
        return self.content.get(key) is not None

    def whole(self, key: str, high: int = MAX_SIZE, low: int = 1) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.content.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            what = "missing" if key not in self.content else shown(value)
            raise BadConfig(f"{key} is {what}")
        return value

    def given(self, key: str, absent: int, high: int = MAX_SIZE) -> int:
        """Return a whole number; `absent` if the field is missing."""
        return self.whole(key, high) if key in self.content else absent

    def optional(self, key: str, absent: int, null: int, high: int = MAX_SIZE, low: int = 1) -> int:
        """Return a whole number; a missing field has one default, an explicit null another."""
        if key not in self.content:
            return absent
        return null if self.content[key] is None else self.whole(key, high, low)

    def check_number(self, key: str, high: float) -> None:
        """Refuse a field that is there and no number from -high to high, written with a point."""
        value = self.content.get(key, 0.0)
        if not isinstance(value, float) or not -high <= value <= high:
            raise BadConfig(f"{key} is {shown(value)}")

    def flag(self, key: str, absent: bool = False) -> bool:
        """Return a truth value."""
        value = self.content.get(key, absent)
        if not isinstance(value, bool):
            raise BadConfig(f"{key} is {shown(value)}")
        return value

    def flags(self, key: str, count: int) -> tuple[bool, ...] | None:
        """Return a list of at least `count` zeros and ones, one a layer; None if missing or null."""
        value = self.content.get(key)
        if value is None:
            return None
        found = value if isinstance(value, list) else []
        if len(found) < count or any(isinstance(item, bool) or item not in (0, 1) for item in found):
            raise BadConfig(f"{key} is not a list of {count} zeros and ones, one a layer")
        return tuple(bool(item) for item in found[:count])

    def words(self, key: str, allowed: tuple[str, ...], count: int) -> tuple[str, ...] | None:
        """Return a list of `count` words, one a layer; None if the field is missing or null."""
        value = self.content.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != count:
            raise BadConfig(f"{key} is not a list of {count} words, one a layer")
        for word in value:
            if word not in allowed:
                raise BadConfig(f"{key} contains {shown(word)}; known words are {', '.join(allowed)}")
        return tuple(value)

    def indices(self, key: str, count: int) -> tuple[int, ...]:
        """Return a list of indices of `count` layers; empty if the field is missing or null."""
        value = self.content.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise BadConfig(f"{key} is {shown(value)}, and should be a list of layers")
        for index in value:
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
                raise BadConfig(f"{key} contains {shown(index)}; layers are 0 to {count - 1}")
        return tuple(value)


def shown(value: object) -> str:
    """Return a value as JSON, cut to 40 characters."""
    try:
        return json.dumps(value)[:40]
    except (TypeError, ValueError):
        return repr(value)[:40]


LETTERS: Mapping[str, Mapping[str, str]] = {
    "M": {"mixer": "mamba2", "ffn": "none"},
    "*": {"mixer": "attention", "ffn": "none"},
    "-": {"mixer": "none", "ffn": "dense"},
    "E": {"mixer": "none", "ffn": "moe"},
}
"""Letter of a pattern -> the layer's only sub-block."""
KINDS = ("full_attention", "sliding_attention")  # words of `layer_types`


def every(layers: int, n: int) -> list[bool]:
    """Return True for every n-th layer: n - 1, 2n - 1 and so on."""
    return [(layer + 1) % n == 0 for layer in range(layers)]


def by_pattern(letters: str) -> list[Mapping[str, str]]:
    """Return mixer and FFN of each letter's layer. Raises KeyError for an unknown letter."""
    return [LETTERS[letter] for letter in letters]


def laid_out(shape: Shape, rules: Mapping[str, Any]) -> Shape:
    """Return the shape whose layers differ as these layer arguments of a literal say. Raises KeyError as `by_pattern`."""
    layers: list[dict[str, Any]] = [{} for _ in range(shape.layers)]

    def put(key: str, values: list[Any]) -> None:
        for layer, value in zip(layers, values, strict=True):
            layer[key] = value

    if "pattern" in rules:
        for layer, only in zip(layers, by_pattern(rules["pattern"]), strict=True):
            layer |= only
    if "attention_every" in rules:
        attends = every(shape.layers, rules["attention_every"])
        put("mixer", ["attention" if here else shape.mixer for here in attends])
    if "full_every" in rules:
        put("window", [None if full else shape.window for full in every(shape.layers, rules["full_every"])])
    if "no_rope_every" in rules:
        put("rope", [not bare for bare in every(shape.layers, rules["no_rope_every"])])
    if "dense_first" in rules:
        put("ffn", ["dense" if i < rules["dense_first"] else shape.ffn for i in range(shape.layers)])
    return shape.with_layers(layers) if any(layers) else shape


def canonical(shape: Shape) -> Shape:
    """Return the shape without the sizes that no layer uses, so that equal parents have equal shapes."""
    kinds = [own for own, _ in shape.kinds()] if shape.by_layer or shape.base else [shape]
    mixers, channels = {own.mixer for own in kinds}, {own.ffn for own in kinds}
    unused: dict[str, Any] = {} if mixers & {"mamba2", "delta_net"} else {"state": None}
    if "dense" not in channels:
        unused["intermediate"] = 0
    if "moe" not in channels:
        unused |= dict.fromkeys(("experts", "top_k", "expert_width", "shared_width"), 0)
    changed = {name: value for name, value in unused.items() if getattr(shape, name) != value}
    return shape.model_copy(update=changed) if changed else shape


def windowed(shape: Shape, kinds: Sequence[str], window: int) -> Shape:
    """Return the shape whose layers of kind `sliding_attention` see `window` tokens."""
    return shape.with_layers([{"window": window if kind == KINDS[1] else None} for kind in kinds])


def channel_mixers(config: Config, layers: int) -> list[str]:
    """Return each layer's FFN: a mixture, but for those of `mlp_only_layers` and those that `decoder_sparse_step` skips."""
    sparse = every(layers, config.given("decoder_sparse_step", 1))
    dense = config.indices("mlp_only_layers", layers)
    return ["moe" if sparse[layer] and layer not in dense else "dense" for layer in range(layers)]


BIASES = ("attention_bias", "output_bias")
"""Arguments of a `shape(…)` of a family whose attention has biases in all its maps or in none."""


@record
class Part:
    """Attributes of a layer that hold a sub-block's module and its norms; prefixes of their weights as well."""

    module: str
    before: str | None = None  # the norm of what the module reads; None: it reads the residual stream itself
    behind: str | None = None  # the norm of what the module gives to the residual stream
    pair: bool = False  # True if the module returns a tuple, whose first item is its output

    @property
    def norms(self) -> tuple[str, ...]:
        """Return the attributes of the norms."""
        return tuple(name for name in (self.before, self.behind) if name is not None)


@record
class Names:
    """The parts of a layer; None for a sub-block that the layer does not have."""

    attention: Part | None = Part("self_attn", "input_layernorm", pair=True)
    ffn: Part | None = Part("mlp", "post_attention_layernorm")
    factor: str | None = None
    """Attribute that holds the factor of everything that is added to the residual stream; None: 1."""

    def of(self, sub_block: SubBlock) -> Part | None:
        """Return the part of a sub-block."""
        return self.attention if sub_block == "attention" else self.ffn


@record
class Mixture:
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


@record
class Sizes:
    """Sizes that transformers takes where a config.json of a family says nothing, and the flags that it has."""

    flags: tuple[str, ...] = ()  # those of the biases that it may have
    head_dim: int | None = None  # None: hidden / heads
    kv_heads: int | None = None  # None: all heads
    not_null: tuple[str, ...] = ("head_dim",)  # fields that may be missing and not be null
    dense: bool = True  # False if no layer has a dense FFN


SAME_IN_ALL = (
    *("attention_bias", "mlp_bias", "qk_norm", "qk_norm_whole", "norms", "sinks", "router_bias"),
    *("output_gate", "delta_maps", "shared_gate"),
)
"""Fields of a shape that a family's `literal` gives for a config.json, too."""


@record
class Family:
    """A family. Its classes are transformers' own, in `transformers.models.{module}.modeling_{module}`."""

    model_type: str
    prefix: str  # start of its classes' names: `Llama` of LlamaForCausalLM, LlamaAttention, LlamaMLP
    sizes: Sizes = Sizes()  # its usual sizes
    read: Callable[[Config, dict[str, Any]], Shape] = lambda config, sizes: Shape(**sizes)
    """Return the shape that a config.json describes, from `fields_of` it and what else it says. Raises BadConfig."""
    whole_shape: Callable[[Config], Shape] | None = None
    """Return the shape of a config.json that names even the sizes in its own way. Raises BadConfig."""
    literal: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a shape, and rules for its layers (`families.registry`), where a `shape(…)` does not write them."""
    takes: tuple[str, ...] = ("tied",)
    """Arguments that a `shape(…)` of it takes beside the usual ones (`families.registry`)."""
    names: Callable[[Shape], Names] = lambda shape: Names()
    """Return the names inside a layer of this (layer's) shape."""
    mixture: Mixture = Mixture()  # its mixtures of experts, if it has any
    whole_heads: bool = False
    """True if the hidden size must be a multiple of the number of query heads, whatever their width."""
    quantised: tuple[str, ...] = ()
    """Methods of quantisation that its published weights have and that are read."""
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Projection of a sub-block whose rows are several canonical ones', in order -> these."""
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
    """Return what nearly all families name alike: the sizes, `tied`, biases, and what is the same in all models of the family."""
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
    """Return the kind and counts of a mixture, by default `experts` and `top_k`, under either name that checkpoints have."""
    names = [name for name in ("num_experts", "num_local_experts") if name in config.content]
    counts = [config.whole(name, MAX_EXPERTS) for name in names] or [experts]
    if len(set(counts)) > 1:
        raise BadConfig(" and ".join(f"{name} is {count}" for name, count in zip(names, counts, strict=True)))
    return {"ffn": "moe", "experts": counts[0], "top_k": config.given("num_experts_per_tok", top_k)}
