"""A child in engines that are not part of puzzledsl: equality with the reference, and speed."""

from __future__ import annotations

from typing import Literal

from puzzledsl.base.frozen import Frozen, left_out
from puzzledsl.ir.base import Artefact

EngineName = Literal["transformers", "llama_cpp", "mlx", "vllm"]


class EngineResult(Frozen):
    """A child in one engine against the float64 reference. `refused`: the engine cannot represent it; `absent`: not installed.

    `max_delta` is the largest difference of a logit (or a log-probability, whichever the engine gives), `largest` the largest
    logit of the reference; of `tokens` greedily chosen ones, `same` are the reference's before the first that differs.
    `error`: of a quantised file's logits, relative to their norm; `own_error`: of the engine's 8-bit file of the same weights.
    """

    engine: EngineName
    version: str = ""
    status: Literal["equal", "differs", "refused", "crashed", "absent"]
    reason: str = ""
    max_delta: float | None = None
    largest: float | None = None
    same: int = 0
    tokens: int = 0
    error: float | None = left_out(None)
    own_error: float | None = left_out(None)


class EngineSpeed(Frozen):
    """One model in one engine: bytes of its weights there, and tokens a second of one sequence (median of the rounds)."""

    model: Literal["parent", "child"]
    engine: EngineName
    version: str
    dtype: str
    weights_bytes: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    text: str = ""


class EngineCheck(Artefact):
    """`build/engines/NAME.json`: a child in the engines of this machine. Speeds are of `prompt` and `output` tokens."""

    name: str
    results: tuple[EngineResult, ...]
    speeds: tuple[EngineSpeed, ...] = ()
    prompt: int = 0
    output: int = 0
    threads: int = 1
