"""Number types, and engines that costs can be measured in: one entry each. Its program is `export/engines/NAME_engine.py`.

`engine: NAME` of `measured(...)`, its data types, its diagnostics and its documentation read this table.
"""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.frozen import record

DTYPES: dict[str, str] = {
    "fp32": "32-bit floating point.",
    "tf32": "TensorFloat-32: stored in 4 bytes.",
    "bf16": "bfloat16.",
    "fp16": "16-bit floating point.",
    "fp8": "8-bit floating point.",
    "int8": "8-bit integers.",
    "fp4": "4-bit floating point.",
    "int4": "4-bit integers.",
    "mxfp4": "4-bit floating point with an 8-bit scale for 32 numbers.",
    "fp64": "64-bit floating point.",
}
"""Number types of analytic profiles."""


@record
class Engine:
    """An engine that runs exported models.

    `weights` maps each data type to the bits of a stored weight, the usual type first. `cache_bits`: of a cached number; None: as
    the weights. `devices`: those it runs on here. `install`: how a user gets it.
    """

    name: str
    title: str
    weights: Mapping[str, float]
    cache_bits: float | None = None
    devices: tuple[str, ...] = ("cpu",)
    install: str = ""

    @property
    def dtype(self) -> str:
        """The data type unless said."""
        return next(iter(self.weights))


TORCH = "torch"
"""The engine unless said: Transformers' modules in PyTorch, in this process."""
ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(TORCH, "PyTorch", {"fp32": 32, "bf16": 16, "fp16": 16}, devices=("cpu", "cuda", "mps")),
        Engine(
            "llama_cpp",
            "llama.cpp",
            {"f16": 16, "f32": 32, "bf16": 16, "q8_0": 8.5, "q4_0": 4.5, "iq4_nl": 4.5},
            cache_bits=16,
            install='`pip install "puzzledsl[runtimes]"` installs it (llama-cpp-py-sync)',
        ),
        Engine(
            "vllm",
            "vLLM",
            {"bf16": 16, "fp32": 32, "fp16": 16},
            devices=("cpu", "cuda"),
            install="`make vllm` makes an environment for it; $PZL_VLLM_VENV names another one",
        ),
        Engine(
            "mlx",
            "MLX",
            {"bf16": 16, "fp32": 32, "fp16": 16},
            devices=("cpu", "mps"),
            install='`pip install "puzzledsl[runtimes]"` installs it (mlx-lm)',
        ),
    )
}


def engine_words(kind: str) -> tuple[str, ...]:
    """Return the union of all engines' `dtypes` or `devices`, in the order of the table."""
    found: dict[str, None] = {}
    for engine in ENGINES.values():
        found |= dict.fromkeys(engine.weights if kind == "dtypes" else engine.devices)
    return tuple(found)
