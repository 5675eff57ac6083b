"""Diagnostics of `measured(engine: ...)` that the checker finds."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class EngineLacksType(Diagnostic):
    """A data type or device that the engine of `measured(...)` does not have.

    Each engine has its own names: GGUF files have `f32`, `f16`, `bf16` and `q8_0`; PyTorch has `fp32`, `fp16` and `bf16`.

    Wrong:
        hardware here = measured(engine: vllm, dtype: q8_0)
    Right:
        hardware here = measured(engine: llama_cpp, dtype: q8_0)
    """

    code = "E1806"
    template = "{engine} has no {key} `{value}`"


class EngineLacksAlternative(Diagnostic):
    """A space is searched by costs of an engine that cannot run all of its children.

    Every child that the search can choose must run where its costs are measured.

    Wrong:
        hardware laptop = measured(engine: llama_cpp, dtype: q8_0)
        scenario talk on laptop = batch(1, 128 -> 128)
        space x of p { attention = parent | gqa(kv_heads: 2, window: 512, sinks: 4), ffn = parent }
        score xl of x = table("kl.csv")
        search s of x { minimize xl, require talk.throughput >= 1.2x }
    Right:
        hardware laptop = measured(engine: llama_cpp, dtype: q8_0)
        scenario talk on laptop = batch(1, 128 -> 128)
        space x of p { attention = parent | gqa(kv_heads: 2), ffn = parent }
        score xl of x = table("kl.csv")
        search s of x { minimize xl, require talk.throughput >= 1.2x }
    """

    code = "E1807"
    template = "{engine} cannot run {what}: {reason}"
    help_template = (
        "drop it from `{space}`, or measure in another engine: `measured(engine: torch)` runs everything"
    )


class FullIsRounded(Diagnostic):
    """A space has alternatives without a type, and its costs are measured in a file that stores these in few bits.

    `dtype` of `measured(...)` is the type of whatever has none of its own. Of 8 bits and more the rounding is small; that of
    fewer is not, and scores know of it only where the alternative has the type itself.

    Wrong:
        hardware laptop = measured(engine: llama_cpp, dtype: q4_0)
        scenario talk on laptop = batch(1, 128 -> 128)
        space x of p { attention = parent(dtype: full | q4_0) | noop, ffn = parent(dtype: q4_0) }
        score xl of x = table("kl.csv")
        search s of x { minimize xl, require talk.throughput >= 1.2x }
    Right:
        hardware laptop = measured(engine: llama_cpp, dtype: q4_0)
        scenario talk on laptop = batch(1, 128 -> 128)
        space x of p { attention = parent(dtype: q8_0 | q4_0) | noop, ffn = parent(dtype: q4_0) }
        score xl of x = table("kl.csv")
        search s of x { minimize xl, require talk.throughput >= 1.2x }
    """

    code = "E1812"
    template = (
        "{what} has no `dtype`: {engine} stores it in `{dtype}` here, and no score knows of that rounding"
    )
    help_template = "give it a `dtype` in `{space}`, or measure with `dtype: q8_0`"


class NotOfPyTorch(Diagnostic):
    """`threads` for PyTorch, whose threads are those of this process.

    The environment variable OMP_NUM_THREADS sets them for all stages.

    Wrong:
        hardware here = measured(device: cpu, threads: 4)
    Right:
        hardware here = measured(engine: llama_cpp, threads: 4)
    """

    code = "E1808"
    template = "hardware `{name}` is measured in PyTorch, which takes no `threads` here"
    help_template = "set OMP_NUM_THREADS when you run `pzl`, or name an engine: `engine: llama_cpp`"


class MoneyNotStated(Diagnostic):
    """`cost_per_mtok` or `joules_per_tok` of a scenario that has none.

    Both rest on what the user states: the price or the power of the hardware. They are multiples of the latency, so the
    scenario has one batch.

    Wrong:
        search s of w { minimize kl, require chat.cost_per_mtok <= 0.4USD }
    Right:
        use "std/hardware.pzl" (h100_sxm)
        hardware rented of h100_sxm { price = 2.5 USD/h }
        scenario talk on rented = batch(64, 128 -> 128)
        search s of w { minimize kl, require talk.cost_per_mtok <= 0.4USD }
    """

    code = "E1809"
    template = "`{metric}` needs the `{key}` of hardware `{hardware}` and one batch"
