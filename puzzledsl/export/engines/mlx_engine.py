"""Directories in MLX, through mlx-lm, on the CPU unless the request names another device."""

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


class Engine:
    """One loaded model."""

    logprobs = False

    def __init__(self, path: str, request: dict[str, Any]) -> None:
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache
        from mlx_lm.utils import load_model

        mx.set_default_device(mx.cpu if request.get("device", "cpu") == "cpu" else mx.gpu)
        self._batch = int(request.get("batch", 1))
        self.version = f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}"
        self._mx, self._new_cache = mx, make_prompt_cache
        self._model: Any = None
        self._model, _ = load_model(Path(path), trust_remote_code=True)
        self._cache: Any = None

    def close(self) -> None:
        """Free the model."""
        self._model = self._cache = None

    def reset_cache(self) -> None:
        """Start a new KV cache."""
        self._cache = self._new_cache(self._model)

    def forward(self, tokens: Sequence[int]) -> Any:
        """Return the logits (S, V) of tokens that follow those in the cache."""
        inputs = self._mx.array(np.asarray(tokens, dtype=np.int32))[None]
        logits = self._model(inputs, cache=self._cache)[0].astype(self._mx.float32)
        return np.array(logits)

    def time_prefill(self, prompt: int) -> float:
        """Return the seconds of one prompt of every sequence, from an empty cache."""
        self.reset_cache()
        ids = self._ids(prompt)
        start = time.perf_counter()
        self._filled(ids)
        return time.perf_counter() - start

    def fill(self, context: int) -> None:
        """Give every sequence `context` tokens."""
        self.reset_cache()
        self._filled(self._ids(context))

    def time_steps(self, steps: int) -> list[float]:
        """Return the seconds of decode steps after the context of `fill`, to which the cache is cut back afterwards."""
        from mlx_lm.models.cache import trim_prompt_cache

        found = []
        for step in range(steps):
            ids = self._ids(1) + step
            start = time.perf_counter()
            self._chosen(ids)
            found.append(time.perf_counter() - start)
        trim_prompt_cache([cache for cache in self._cache if cache is not None], steps)
        return found

    def _ids(self, tokens: int) -> Any:
        rows = [[(7 + 13 * i * i + row) % 251 for i in range(tokens)] for row in range(self._batch)]
        return self._mx.array(np.asarray(rows, dtype=np.int32))

    def _filled(self, ids: Any) -> None:
        """Run prompts as `mlx_lm` does: the head runs for their last tokens alone."""
        if ids.shape[1] > 1:
            self._model(ids[:, :-1], cache=self._cache)
            self._mx.eval([cache.state for cache in self._cache if cache is not None])
        self._chosen(ids[:, -1:])

    def _chosen(self, ids: Any) -> None:
        self._mx.eval(self._model(ids, cache=self._cache)[:, -1].argmax(-1))
