"""Quantise a GGUF file by one of llama.cpp's recipes: `python llama_cpp_quantise.py SOURCE TARGET FILE_TYPE THREADS`.

llama.cpp's log goes to stdout, a line at a time; `[  3/ 27]` begins that of each tensor. Exit code: 0, or 1 if llama.cpp failed.
"""

from __future__ import annotations

import sys
from typing import Any


def quantise(source: str, target: str, file_type: int, threads: int) -> int:
    """Write `target`; return llama.cpp's result, 0 for success."""
    from puzzledsl.export.engines.llama_cpp_engine import bindings

    lib, ffi, _ = bindings()

    def say(_level: int, text: Any, _data: Any) -> None:
        sys.stdout.write(ffi.string(text).decode(errors="replace"))
        sys.stdout.flush()

    log = ffi.callback("void(enum ggml_log_level, const char *, void *)", say)
    lib.llama_log_set(log, ffi.NULL)
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, threads
    found = lib.llama_model_quantize(
        source.encode(), target.encode(), ffi.new("llama_model_quantize_params *", params)
    )
    lib.llama_log_set(ffi.NULL, ffi.NULL)
    return int(found)


if __name__ == "__main__":
    sys.exit(min(1, quantise(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
