"""Content of a config.json, read field by field as transformers reads it.

Also the rules by which layers differ from each other: every n-th, the first n, or a pattern of letters.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.frozen import Record

MAX_CONFIG_BYTES = 1 << 20
MAX_SIZE = 2**24
MAX_VOCAB = 2**26
MAX_LAYERS = 2_000
MAX_WINDOW = 2**40


class BadConfig(ValueError):
    """A config.json that cannot be used; the message gives the reason."""


def checkpoints_beside(path: Path, given: str) -> list[str]:
    """Return the directories beside `path` that have a config.json, written as `given` writes `path`; `path` need not exist."""
    try:
        found = sorted(p.name for p in path.parent.iterdir() if (p / "config.json").is_file())
    except (OSError, ValueError):  # no such directory; a name that no file can have
        return []
    return [given.rstrip("/").removesuffix(path.name) + name for name in found]


def config_content(path: Path) -> dict[str, Any] | None:
    """Read a config.json; None if there is no such file. Raises BadConfig if it is unreadable, too large or no JSON object."""
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


class Config(Record):
    """The fields of a config.json. Every method but `has` raises BadConfig for a value of the wrong kind."""

    content: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Return True if the field is there and not null."""
        return self.content.get(key) is not None

    def whole(self, key: str, high: int = MAX_SIZE, low: int = 1) -> int:
        """Return a whole number from `low` to `high`. Raises BadConfig if the field is missing, too."""
        value = self.content.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            what = "missing" if key not in self.content else shown(value)
            raise BadConfig(f"{key} is {what}")
        return value

    def given(self, key: str, absent: int, high: int = MAX_SIZE) -> int:
        """Return a whole number; `absent` if the field is missing."""
        return self.whole(key, high) if key in self.content else absent

    def optional(self, key: str, absent: int, null: int, high: int = MAX_SIZE, low: int = 1) -> int:
        """Return a whole number; `absent` if the field is missing, `null` if it is null."""
        if key not in self.content:
            return absent
        return null if self.content[key] is None else self.whole(key, high, low)

    def check_number(self, key: str, high: float) -> None:
        """Raise BadConfig if the field is there and is no float (`7.0`, not `7`) from -high to high."""
        value = self.content.get(key, 0.0)
        if not isinstance(value, float) or not -high <= value <= high:
            raise BadConfig(f"{key} is {shown(value)}")

    def flag(self, key: str, absent: bool = False) -> bool:
        """Return true or false; `absent` if the field is missing."""
        value = self.content.get(key, absent)
        if not isinstance(value, bool):
            raise BadConfig(f"{key} is {shown(value)}")
        return value

    def flags(self, key: str, count: int) -> tuple[bool, ...] | None:
        """Return the first `count` of a list of zeros and ones, one a layer, as truth values; None if missing or null."""
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
        """Return a list of layer indices, each below `count`; empty if the field is missing or null."""
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
    """Return a value as JSON, or as Python writes it where JSON cannot, cut to 40 characters."""
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
    """Return a truth value for each layer: True for every n-th, which are n - 1, 2n - 1 and so on."""
    return [(layer + 1) % n == 0 for layer in range(layers)]


def by_pattern(letters: str) -> list[Mapping[str, str]]:
    """Return mixer and FFN of each letter's layer. Raises KeyError for an unknown letter."""
    return [LETTERS[letter] for letter in letters]


def laid_out(shape: Shape, rules: Mapping[str, Any]) -> Shape:
    """Return the shape with layers as a literal's `rules` say (`pattern`, `full_every`, …). Raises KeyError as `by_pattern`."""
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
    """Return the shape with sizes that no layer uses set to 0 or None, so that equal parents have equal shapes."""
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
    """Return the shape whose layers of kind `sliding_attention` see `window` tokens, and the others all."""
    return shape.with_layers([{"window": window if kind == KINDS[1] else None} for kind in kinds])


def channel_mixers(config: Config, layers: int) -> list[str]:
    """Return `moe` or `dense` for each layer: `dense` in `mlp_only_layers` and where `decoder_sparse_step` skips a layer."""
    sparse = every(layers, config.given("decoder_sparse_step", 1))
    dense = config.indices("mlp_only_layers", layers)
    return ["moe" if sparse[layer] and layer not in dense else "dense" for layer in range(layers)]
