"""GGUF files in llama.cpp, by llama-cpp-py-sync: with its own library, or with the one that $PZL_LLAMA_LIBRARY names.

The package's private names are used here alone: its public `Llama` has no decoding of several sequences, no context like a
server's, no log to set, no quantisation, and no other library.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_QUIET: list[Any] = []
EVERY_LAYER = 999
GIVEN = ("llama_model_params", "llama_context_params", "llama_model_quantize_params", "llama_batch")
"""Structures that are passed to llama.cpp. Their fields differ between its versions."""


def bindings() -> tuple[Any, Any, str]:
    """Return llama.cpp's library, its cffi interface (for a user's library with its header's structures), and its version."""
    import llama_cpp_py_sync
    from llama_cpp_py_sync import _cffi_bindings

    wheel: Any = _cffi_bindings
    given = os.environ.get("PZL_LLAMA_LIBRARY")
    if not given:
        return wheel.get_lib(), wheel.get_ffi(), f"llama-cpp-py-sync {llama_cpp_py_sync.__version__}"
    if wheel._lib is None:
        header = (Path(given).parent.parent / "include" / "llama.h").read_text(encoding="utf-8")
        interface = wheel.FFI()
        interface.cdef(with_structures_of(header, wheel._LLAMA_H_CDEF))
        wheel.ffi, wheel._lib = interface, interface.dlopen(given)
    return wheel._lib, wheel.ffi, f"llama.cpp {os.environ.get('PZL_LLAMA_BUILD', given)}"


def with_structures_of(header: str, declarations: str) -> str:
    """Return cffi declarations in which the structures GIVEN are a header's. Raises RuntimeError if it lacks one."""
    bare = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.DOTALL)
    for name in GIVEN:
        pattern = re.compile(rf"struct {name}\s*\{{(.*?)\}}", re.DOTALL)
        own = pattern.search(bare)
        if own is None:
            raise RuntimeError(f"its header has no structure {name}")
        fields = f"struct {name} {{{own[1]}}}"
        declarations = pattern.sub(fields, declarations, count=1)
    return declarations


class Engine:
    """One loaded model with a float32 KV cache; for timing, as `llama-server` loads it: a float16 cache, flash attention.

    A request may name another type of cache. It turns on flash attention, without which llama.cpp stores no values in that type.
    """

    logprobs = False

    def __init__(self, path: str, request: dict[str, Any]) -> None:
        import llama_cpp_py_sync

        context, threads = request["context"], request["threads"]
        self._lib, self._ffi, self.version = bindings()
        if not _QUIET:  # llama.cpp keeps it as long as the process lives, so it must stay
            log = self._ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda *_: None)
            _QUIET.append(log)
            self._lib.llama_log_set(log, self._ffi.NULL)
        self._batch, cache = int(request.get("batch", 1)), request.get("cache")
        threads_of = {"n_threads": threads, "n_threads_batch": threads}
        if not request.get("serving"):
            self._llama: Any = llama_cpp_py_sync.Llama(
                path,
                n_ctx=context,
                n_batch=context,
                type_k=cache or "f32",
                type_v=cache or "f32",
                flash_attn_type=int(cache is not None),
                **threads_of,
            )
            return
        told = self._ffi.string(self._lib.llama_print_system_info()).decode()
        features = " ".join(
            re.findall(r"(\w+) = 1\b", told)
        )  # of the processor, that the library was built for
        self.version = f"{self.version} ({features})"
        gpu = EVERY_LAYER if request.get("device", "cpu") != "cpu" else 0
        # One thread that never waits: its processor's seconds, which no other process lengthens, are the seconds that pass.
        self._clock = time.process_time if threads == 1 and not gpu else time.perf_counter
        self._llama = llama_cpp_py_sync.Llama(path, n_ctx=256, n_gpu_layers=gpu, **threads_of)
        self._serve(context, threads, cache)
        self._vocab, self._context = int(self._llama.n_vocab), 0

    def _serve(self, context: int, threads: int, cache: str | None) -> None:
        """Replace the context by one like a server's. The wrapper's own returns embeddings: its head runs at every position."""
        params = self._lib.llama_context_default_params()  # float16 cache, flash attention where there is any
        params.n_ctx, params.n_seq_max = self._batch * -(-context // 256) * 256, self._batch
        params.n_batch = self._batch * context
        params.n_threads, params.n_threads_batch = threads, threads
        if cache is not None:
            params.type_k = params.type_v = getattr(self._lib, f"GGML_TYPE_{cache.upper()}")
            params.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._lib.llama_free(self._llama._ctx)
        self._llama._ctx = self._lib.llama_init_from_model(self._llama._model, params)
        if self._llama._ctx == self._ffi.NULL:
            raise RuntimeError("llama_init_from_model failed: is there memory for the cache?")

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def reset_cache(self) -> None:
        """Empty the KV cache."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._llama._ctx), True)
        self._past = 0

    def forward(self, tokens: Sequence[int]) -> Any:
        """Return the logits (S, V) of tokens that follow those in the cache."""
        batch = self._lib.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = int(token), self._past + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, True
        self._past += len(tokens)
        try:
            if self._lib.llama_decode(self._llama._ctx, batch) != 0:
                raise RuntimeError("llama_decode failed")
            vocab = self._llama.n_vocab
            rows = [self._lib.llama_get_logits_ith(self._llama._ctx, i) for i in range(len(tokens))]
            return np.stack(
                [np.frombuffer(self._ffi.buffer(row, vocab * 4), dtype=np.float32).copy() for row in rows]
            )
        finally:
            self._lib.llama_batch_free(batch)

    def time_prefill(self, prompt: int) -> float:
        """Return the seconds of one prompt of every sequence, from an empty cache."""
        self.reset_cache()
        return self._timed(0, prompt)

    def fill(self, context: int) -> None:
        """Give every sequence `context` tokens: one reads them, and the others get copies of its cache."""
        self.reset_cache()
        self._context = context
        self._timed(0, context, sequences=1)
        memory = self._lib.llama_get_memory(self._llama._ctx)
        for sequence in range(1, self._batch):
            self._lib.llama_memory_seq_cp(memory, 0, sequence, -1, -1)

    def time_steps(self, steps: int) -> list[float]:
        """Return the seconds of decode steps after the context of `fill`, to which the cache is cut back afterwards."""
        found = [self._timed(self._context + step, 1) for step in range(steps)]
        memory = self._lib.llama_get_memory(self._llama._ctx)
        for sequence in range(self._batch):
            self._lib.llama_memory_seq_rm(memory, sequence, self._context, -1)
        return found

    def _timed(self, past: int, tokens: int, sequences: int = 0) -> float:
        """Return the seconds of `tokens` new tokens of all (or the first) `sequences`, with the choice of the next token."""
        sequences = sequences or self._batch
        total = sequences * tokens
        batch = self._lib.llama_batch_init(total, 0, 1)
        batch.n_tokens = total
        for i in range(total):
            sequence, place = divmod(i, tokens)
            batch.token[i], batch.pos[i] = (7 + 13 * i * i + past) % self._vocab, past + place
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = place == tokens - 1
        try:
            start = self._clock()
            if self._lib.llama_decode(self._llama._ctx, batch) != 0:
                raise RuntimeError("llama_decode failed: is the context too long?")
            for sequence in range(sequences):
                row = self._lib.llama_get_logits_ith(self._llama._ctx, (sequence + 1) * tokens - 1)
                np.frombuffer(self._ffi.buffer(row, self._vocab * 4), dtype=np.float32).argmax()
            return self._clock() - start
        finally:
            self._lib.llama_batch_free(batch)


def quantise(
    source: str,
    target: str,
    file_type: int,
    threads: int,
    importance: str = "",
    head: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Quantise a file by one of llama.cpp's recipes. Raises RuntimeError with its last words.

    `importance`: an .npz file with the importance of each input of a tensor, by the tensor's name. `head`: number of the type of
    embedding and head (`ggml_type`). `say` gets llama.cpp's log, a text at a time; `[  3/ 27]` begins that of each tensor.
    """
    (lib, ffi, _), told = bindings(), [""]

    def hear(_level: int, text: Any, _data: Any) -> None:
        told.append(ffi.string(text).decode(errors="replace"))
        say(told[-1])

    log = ffi.callback("void(enum ggml_log_level, const char *, void *)", hear)
    lib.llama_log_set(log, ffi.NULL)
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, threads
    if head is not None:
        params.output_tensor_type = params.token_embedding_type = head
    matrices = dict(np.load(importance)) if importance else {}
    held = [
        (ffi.new("char[]", name.encode()), ffi.from_buffer("float[]", own)) for name, own in matrices.items()
    ]
    entries = ffi.new("struct llama_model_imatrix_data[]", len(held) + 1)  # the last has no name, and ends it
    for entry, (name, values) in zip(entries, held, strict=False):
        entry.name, entry.data, entry.size = name, values, len(values)
    if held:
        params.imatrix = entries
    found = lib.llama_model_quantize(
        source.encode(), target.encode(), ffi.new("llama_model_quantize_params *", params)
    )
    lib.llama_log_set(ffi.NULL, ffi.NULL)
    if found:
        raise RuntimeError(next(text.strip() for text in reversed(["it failed", *told]) if text.strip()))
