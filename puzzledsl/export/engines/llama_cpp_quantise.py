"""Quantise a GGUF file by one of llama.cpp's recipes.

`python llama_cpp_quantise.py SOURCE TARGET FILE_TYPE THREADS [IMPORTANCE]`; IMPORTANCE is an .npz file with the importance of
each input of a tensor, by the tensor's name.

llama.cpp's log goes to stdout, a line at a time; `[  3/ 27]` begins that of each tensor. Exit code: 0, or 1 if llama.cpp failed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def quantise(source: str, target: str, file_type: int, threads: int, importance: str = "") -> int:
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
    return int(found)


if __name__ == "__main__":
    sys.exit(min(1, quantise(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])))
