"""Whole-file recipes of GGUF: llama.cpp chooses the storage type of each matrix (`llama_model_quantize`).

Source: include/llama.h (`llama_ftype`) and ggml/src/ggml-common.h (bytes of a block), llama.cpp 0ce8cd11416c. Recipes that
llama.cpp makes only with an importance matrix are not here.
"""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.frozen import record


@record
class Recipe:
    """A recipe.

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
        Recipe("q5_0", 8, 5.5, block=32),
        Recipe("q5_k_s", 16, 5.5),
        Recipe("q5_k_m", 17, 5.5),
        Recipe("q6_k", 18, 6.5625),
    )
}
"""Recipes by the word of the language, in the order of documentation: by the bits of the main type."""
