"""GGUF files in llama.cpp, by llama-cpp-py-sync."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

_QUIET: list[Any] = []


class Engine:
    """One loaded model with a float32 KV cache."""

    logprobs = False

    def __init__(self, path: str, request: dict[str, Any]) -> None:
        import llama_cpp_py_sync
        from llama_cpp_py_sync import _cffi_bindings

        bindings: Any = _cffi_bindings
        context, threads = request["context"], request["threads"]
        self.version = f"llama-cpp-py-sync {llama_cpp_py_sync.__version__}"
        self._lib, self._ffi = bindings.get_lib(), bindings.get_ffi()
        if not _QUIET:  # llama.cpp keeps it as long as the process lives, so it must stay
            log = self._ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda *_: None)
            _QUIET.append(log)
            self._lib.llama_log_set(log, self._ffi.NULL)
        self._llama: Any = llama_cpp_py_sync.Llama(
            path,
            n_ctx=context,
            n_batch=context,
            n_threads=threads,
            n_threads_batch=threads,
            type_k="f32",
            type_v="f32",
            flash_attn_type=0,
        )

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def reset_cache(self) -> None:
        """Empty the KV cache."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._llama._ctx), True)

    def forward(self, tokens: Sequence[int], past: int, *, every: bool = True) -> Any:
        """Return the logits (S, V) of tokens that follow `past` cached ones; of the last alone with `every` false."""
        batch = self._lib.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = int(token), past + i, 1, 0
            batch.logits[i] = every or i == len(tokens) - 1
        try:
            if self._lib.llama_decode(self._llama._ctx, batch) != 0:
                raise RuntimeError("llama_decode failed")
            vocab = self._llama.n_vocab
            wanted = range(len(tokens)) if every else [len(tokens) - 1]
            rows = [self._lib.llama_get_logits_ith(self._llama._ctx, i) for i in wanted]
            return np.stack(
                [np.frombuffer(self._ffi.buffer(row, vocab * 4), dtype=np.float32).copy() for row in rows]
            )
        finally:
            self._lib.llama_batch_free(batch)

    def greedy(self, prompt: Sequence[int], steps: int) -> tuple[Any, list[int]]:
        """Return the logits of the prompt (S, V) and the `steps` greedy tokens after it, decoded with the KV cache."""
        self.reset_cache()
        logits = self.forward(prompt, 0)
        chosen = [int(logits[-1].argmax())]
        while len(chosen) < steps:
            row = self.forward(chosen[-1:], len(prompt) + len(chosen) - 1)[-1]
            chosen.append(int(row.argmax()))
        return logits, chosen

    def speed(self, prompt: Sequence[int], steps: int) -> tuple[float, float]:
        """Return prompt tokens per second and output tokens per second of one sequence."""
        self.reset_cache()
        start = time.perf_counter()
        row = self.forward(prompt, 0, every=False)[-1]
        middle = time.perf_counter()
        for i in range(steps):
            row = self.forward([int(row.argmax())], len(prompt) + i)[-1]
        return len(prompt) / (middle - start), steps / (time.perf_counter() - middle)

    def text(self, prompt: str, steps: int) -> str:
        """Return the greedy continuation of a prompt, of `steps` tokens."""
        tokens = self._llama.tokenize(prompt)
        _, chosen = self.greedy(tokens, steps)
        return str(self._llama.detokenize(chosen))
