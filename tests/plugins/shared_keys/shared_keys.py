"""An attention whose queries share few key/value heads and see a window: it keeps a cache, as a search must count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from puzzledsl.alternatives.alternative import Alternative, Attention
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import Argument, Arguments


class SharedKeys(Attention, kind="shared_keys"):
    """Attention with `kv_heads` key/value heads, of the last `window` tokens."""

    kv_heads: int
    window: int

    summary: ClassVar[str] = "Attention with few key/value heads, of the last tokens only."
    arguments: ClassVar[Mapping[str, Argument]] = {
        "kv_heads": Argument("Key/value heads."),
        "window": Argument("Tokens that a token attends to."),
    }
    positional: ClassVar[int] = 0
    name_pattern: ClassVar[str] = r"shared_keys\d+w\d+"

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return the alternative of each number of heads and each window."""
        call.need("kv_heads", "window", help="write `shared_keys(kv_heads: 1, window: 64)`")
        windows = call.wholes("window", 1, 1 << 20)
        heads = call.wholes("kv_heads", 1, call.shape.kv_heads)
        return [cls(kv_heads=number, window=window) for number in heads for window in windows]

    @property
    def plain_name(self) -> str:
        """`shared_keys1w64`."""
        return f"shared_keys{self.kv_heads}w{self.window}"

    def changes(self, shape: Shape) -> dict[str, Any]:
        """Key/value heads and window, from which cache and weights follow."""
        return {"mixer": "attention", "kv_heads": self.kv_heads, "window": self.window}
