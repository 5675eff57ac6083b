"""Number types, engines that costs can be measured in, whole-file recipes of GGUF, and the ladder of files: one entry each.

An engine's program is `export/engines/NAME_engine.py`; `engine: NAME` of `measured(...)`, its data types, its diagnostics and
its documentation read this table. A recipe is llama.cpp's choice of the storage type of each matrix (`llama_model_quantize`);
source: include/llama.h (`llama_ftype`) and ggml/src/ggml-common.h (bytes of a block), llama.cpp 0ce8cd11416c. Recipes that
llama.cpp makes only with an importance matrix are not here.
"""

from collections.abc import Mapping

from puzzledsl.alternatives.precision import CACHES, FULL
from puzzledsl.base.frozen import Record

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


class Engine(Record):
    """An engine that runs exported models.

    `weights` maps each data type to the bits of a stored weight, the usual type first. `cache_bits`: of a cached number; None: as
    the weights. `devices`: those it runs on here. `install`: how a user gets it. `ladder`: files that its own quantiser
    makes of the parent are measured beside children. `joined`: prompts and tokens of one step pass through the model together.
    """

    name: str
    title: str
    weights: Mapping[str, float]
    cache_bits: float | None = None
    devices: tuple[str, ...] = ("cpu",)
    install: str = ""
    ladder: bool = False
    joined: bool = False

    @property
    def dtype(self) -> str:
        """The default data type: the first of `weights`."""
        return next(iter(self.weights))

    @property
    def caches(self) -> tuple[str, ...]:
        """Words of the types in which the engine stores keys and values; `full` is its usual one."""
        return (FULL, *(cache.name for cache in CACHES.values() if self.name in cache.flags))


TORCH = "torch"  # The default engine: Transformers' modules in PyTorch, in this process.
ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(TORCH, "PyTorch", {"fp32": 32, "bf16": 16, "fp16": 16}, devices=("cpu", "cuda", "mps")),
        Engine(
            "llama_cpp",
            "llama.cpp",
            {"f16": 16, "f32": 32, "bf16": 16, "q8_0": 8.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5},
            cache_bits=16,
            install='`pip install "puzzledsl[runtimes]"` installs it (llama-cpp-py-sync)',
            ladder=True,
        ),
        Engine(
            "vllm",
            "vLLM",
            {"bf16": 16, "fp32": 32, "fp16": 16},
            devices=("cpu", "cuda"),
            install="`make vllm` makes an environment for it; $PZL_VLLM_VENV names another one",
            joined=True,
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


class Recipe(Record):
    """A whole-file recipe of llama.cpp's quantiser.

    `file_type`: its number in `llama_ftype`. `bits`: of a weight in its main storage type. `block`: numbers of a block of that
    type, of which rows must be multiples.
    """

    name: str
    file_type: int
    bits: float
    block: int = 256


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("q2_k", 10, 2.625),
        Recipe("q3_k_s", 11, 3.4375),
        Recipe("q3_k_m", 12, 3.4375),
        Recipe("q3_k_l", 13, 3.4375),
        Recipe("iq4_xs", 30, 4.25),
        Recipe("q4_0", 2, 4.5, block=32),
        Recipe("iq4_nl", 25, 4.5, block=32),
        Recipe("q4_k_s", 14, 4.5),
        Recipe("q4_k_m", 15, 4.5),
        Recipe("q4_1", 3, 5, block=32),
        Recipe("q5_0", 8, 5.5, block=32),
        Recipe("q5_k_s", 16, 5.5),
        Recipe("q5_k_m", 17, 5.5),
        Recipe("q6_k", 18, 6.5625),
    )
}
"""Recipes by the word of the language, in the order of documentation: by the bits of the main type."""


class Rung(Record):
    """A file that llama.cpp's own quantiser makes of a parent: what a user has without a search.

    `head`: the type of embedding and head; empty for the recipe's choice. `weighed`: with an importance matrix.
    """

    recipe: Recipe
    weighed: bool = False
    head: str = ""

    @property
    def name(self) -> str:
        """The file's name in reports, such as `iq4_nl, head iq4_nl, weighed`."""
        head = f", head {self.head}" if self.head else ""
        return f"{self.recipe.name}{head}{', weighed' if self.weighed else ''}"

    @property
    def command(self) -> str:
        """The shell command that makes the file from the parent's GGUF file."""
        matrix = "--imatrix imatrix.gguf " if self.weighed else ""
        head = f"--output-tensor-type {self.head} --token-embedding-type {self.head} " if self.head else ""
        return f"llama-quantize {matrix}{head}parent.gguf {self.recipe.name}.gguf {self.recipe.name}"


_Q8_0, _Q4_0, _IQ4_NL = Recipe("q8_0", 7, 8.5, block=32), RECIPES["q4_0"], RECIPES["iq4_nl"]
LADDER: tuple[Rung, ...] = (
    Rung(_Q8_0),
    Rung(RECIPES["q6_k"]),
    Rung(RECIPES["q4_k_m"], weighed=True),
    Rung(_IQ4_NL, weighed=True),
    Rung(_Q4_0),
    Rung(_Q4_0, weighed=True),
    Rung(_Q4_0, head="q4_0"),
    Rung(_Q4_0, weighed=True, head="q4_0"),
    Rung(_IQ4_NL, weighed=True, head="iq4_nl"),
)
"""Files a user would try, most bits first. `iq4_nl` takes 25 s to make, and an importance matrix halves its KL divergence."""
