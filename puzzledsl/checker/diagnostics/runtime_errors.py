"""Diagnostics of exports that the chosen runtime cannot run: E047x."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoSuchFamily(Diagnostic):
    """The runtime cannot run children of parents of this architecture.

    A runtime has model code for some architectures, and few allow layers to differ. In llama.cpp none of these has both
    norms on queries and keys, as Qwen3 needs, and biases in attention.

    Wrong:
        parent q = shape(family: qwen3, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8,
          intermediate: 192, vocab: 256, attention_bias: true)
        space x of q { attention = parent | noop, ffn = parent }
        score ql of x = table("kl.csv")
        search s of x { minimize ql }
        export out of s = gguf("child.gguf")
    Right:
        parent q = shape(family: qwen3, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8,
          intermediate: 192, vocab: 256, attention_bias: true)
        space x of q { attention = parent | noop, ffn = parent }
        score ql of x = table("kl.csv")
        search s of x { minimize ql }
        export out of s = mlx("child")
    """

    code = "E0471"
    template = "{runtime} cannot run children of {family} parents: {reason}"


class CannotRepresent(Diagnostic):
    """An alternative that the runtime lacks and that nothing in the runtime can replace exactly.

    Every child that the search can choose must run in the export's runtime. A missing alternative is rewritten if an
    exact replacement exists. First tokens beside a window have none.

    Wrong:
        space x of p { attention = parent | gqa(kv_heads: 2, window: 512, sinks: 4), ffn = parent }
        score xl of x = table("kl.csv")
        search s of x { minimize xl }
        export out of s = hf("child", runtime: vllm)
    Right:
        space x of p { attention = parent | gqa(kv_heads: 2, window: 512), ffn = parent }
        score xl of x = table("kl.csv")
        search s of x { minimize xl }
        export out of s = hf("child", runtime: vllm)
    """

    code = "E0472"
    template = "{runtime} has no {what}: {layers} ({reason})"


class IsLowered(Diagnostic):
    """An alternative that the runtime lacks and that the export rewrites into something the runtime has.

    The rewritten child computes the same outputs, with more weights than the search counted. `lower: true` accepts
    this, `lower: false` makes it an error.

    Wrong:
        search s of w { minimize kl }
        export out of s = hf("child", runtime: vllm)
    Right:
        search s of w { minimize kl }
        export out of s = hf("child", runtime: vllm, lower: true)
    """

    code = "W0473"
    severity = "warning"
    template = "{runtime} has no {what}"


class LoweringRefused(Diagnostic):
    """An alternative that the runtime lacks, in an export that forbids rewriting with `lower: false`.

    The rewritten form costs weights and time that the search did not count.

    Wrong:
        search s of w { minimize kl }
        export out of s = hf("child", runtime: vllm, lower: false)
    Right:
        search s of w { minimize kl }
        export out of s = hf("child", runtime: vllm, lower: true)
    """

    code = "E0474"
    template = "{runtime} has no {what}, and `lower: false` forbids rewriting it"
