"""Diagnostics of alternatives: sizes that the parent does not allow, and packages that do not load."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class KvHeadsDontDivide(Diagnostic):
    """A number of key/value heads that does not divide the parent's heads.

    Grouped-query attention shares every key/value head among equally many query heads, and new heads are made by
    merging the parent's heads in groups of equal size.

    Wrong:
        space v of p { attention = gqa(kv_heads: 3) }
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0207"
    template = "kv_heads={got} does not divide the parent's {heads} {what} heads"


class HeadsDontDivide(Diagnostic):
    """A number of query heads that is no multiple of the key/value heads.

    Every key/value head serves equally many query heads.

    Wrong:
        space v of p { attention = gqa(heads: 6, kv_heads: 4) }
    Right:
        space v of p { attention = gqa(heads: 4, kv_heads: 4) }
    """

    code = "E0224"
    template = "heads={heads} is no multiple of kv_heads={kv_heads}"


class SinksDontFit(Diagnostic):
    """`sinks` that do not fit into a window.

    A window lets a token see a number of tokens, and `sinks` of these are the first of the sequence. It needs a
    window larger than `sinks`, because a token sees itself, in a parent whose own attention has no window.

    Wrong:
        space v of p { attention = gqa(kv_heads: 2, sinks: 4) }
    Right:
        space v of p { attention = gqa(kv_heads: 2, window: 64, sinks: 4) }
    """

    code = "E0223"
    template = "no room for {sinks} first tokens: this attention {reason}"


class ImpossibleExperts(Diagnostic):
    """More active experts than experts.

    A mixture of experts sends a token to `top_k` of its `experts`: as many as the parent, unless written.

    Wrong:
        parent m = shape(family: qwen3_moe, layers: 4, hidden: 64, heads: 8, head_dim: 8, vocab: 256,
          experts: 8, top_k: 2, expert_width: 32)
        space v of m { ffn = moe(experts: 2, top_k: 4) }
    Right:
        parent m = shape(family: qwen3_moe, layers: 4, hidden: 64, heads: 8, head_dim: 8, vocab: 256,
          experts: 8, top_k: 2, expert_width: 32)
        space v of m { ffn = moe(experts: 4, top_k: 2) }
    """

    code = "E0411"
    template = "top_k={top_k} of experts={experts}"
    help_template = "top_k goes from 1 to experts"


class PrecisionDoesNotFit(Diagnostic):
    """A storage type that a layer's matrices do not fit.

    A type of 4 or 5 bits, and `q8_0`, stores the numbers of a row in groups that share a scale. Rows must be whole groups:
    multiples of 32 numbers. Only the width of an FFN may be any in `q8_0`, `q5_0` and `q4_0`, because a GGUF file fills it
    up with channels of zeros. Mixers that are no attention keep their type.

    Wrong:
        parent odd = shape(family: llama, layers: 4, hidden: 72, heads: 8, kv_heads: 4, head_dim: 8,
          intermediate: 192, vocab: 256)
        space v of odd { ffn = parent(dtype: q8_0) }
    Right:
        parent odd = shape(family: llama, layers: 4, hidden: 72, heads: 8, kv_heads: 4, head_dim: 8,
          intermediate: 192, vocab: 256)
        space v of odd { ffn = parent(dtype: int8) }
    """

    code = "E0225"
    template = "`{name}` cannot be stored as `{dtype}` ({layers}): {why}"
    help_template = "`int8` and `fp8` have a scale for each row, of any length"


class BrokenPackage(Diagnostic):
    """An installed package whose alternative does not load.

    A package adds an alternative through the entry points `puzzledsl.alternatives` and `puzzledsl.models.alternatives`.
    Programs that do not use the alternative are not affected.

    Wrong:
        $ pip install low-rank==0.1   # made for another version
        $ pzl check wide.pzl
    Right:
        $ pip install --upgrade low-rank
        $ pzl check wide.pzl
    """

    code = "W0204"
    severity = "warning"
    template = "the package `{package}` adds no alternative `{name}`: {reason}"
    help_template = "upgrade or uninstall `{package}`"
