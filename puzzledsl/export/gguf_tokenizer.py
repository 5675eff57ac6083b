"""Parts of a GGUF file: the tokenizer, from tokenizer.json, and blocks of weights that lie on the grids of storage types.

A block of 32 numbers (ggml-common.h: block_q8_0 and its like) is a float16 scale, in `q4_1` a float16 minimum, then the codes: 8
bits each; or offset to be positive, 4 bits each, number i beside number i + 16 in a byte, the fifth bits before them in one word
of 32. Codes of `iq4_nl` are places in its table of values.

Shapes: R rows of C numbers; N blocks.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.base.diagnostics import DiagnosticError, UnknownTokenizer
from puzzledsl.base.gguf_tokenizers import BadTokenizer, pre_tokenizer, read_tokenizer
from puzzledsl.models.families.load import tokenizer_settings
from puzzledsl.models.precision.gptq import stored_codes

# llama.cpp's llama_token_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def add_tokenizer(writer: Any, directory: Path, vocab: int) -> None:
    """Write a directory's tokenizer and chat template for `vocab` rows of the embedding. Raises DiagnosticError."""
    try:
        content = read_tokenizer(directory)
        model = content["model"]
        splits = "" if model.get("byte_fallback") else pre_tokenizer(content)
    except BadTokenizer as error:
        raise _unknown(directory, str(error)) from error
    tokens: list[str] = [f"[PAD{index}]" for index in range(vocab)]
    kinds = [UNUSED] * vocab
    for token, index in model["vocab"].items():
        _place(directory, tokens, kinds, index, token, NORMAL)
    for added in content.get("added_tokens") or ():
        kind = CONTROL if added["special"] else USER_DEFINED
        _place(directory, tokens, kinds, added["id"], added["content"], kind)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    if model.get("byte_fallback"):
        _add_sentencepiece(writer, model, tokens, kinds, merges)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(splits)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if not model.get("byte_fallback"):  # an array may not be empty; this pair makes no token
        writer.add_token_merges(merges or ["\u0120 \u0120"])
    _add_special(writer, directory, content)


def _place(directory: Path, tokens: list[str], kinds: list[int], at: object, token: str, kind: int) -> None:
    if not isinstance(at, int) or not 0 <= at < len(tokens):
        raise _unknown(directory, f"token {token!r} has number {at}, the embedding {len(tokens):,} rows")
    tokens[at], kinds[at] = token, kind


def _add_sentencepiece(
    writer: Any, model: dict[str, Any], tokens: list[str], kinds: list[int], merges: list[str]
) -> None:
    """Write a SentencePiece BPE model. An earlier merge gives its result a higher score."""
    rank = {"".join(pair.split(" ")): -float(index) for index, pair in reversed(list(enumerate(merges)))}
    scores = [rank.get(token, -1e6) for token in tokens]
    for index, token in enumerate(tokens):
        if kinds[index] == NORMAL and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            kinds[index] = BYTE
        elif token == model.get("unk_token"):
            kinds[index] = UNKNOWN
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores(scores)


def _add_special(writer: Any, directory: Path, content: dict[str, Any]) -> None:
    """Write the ids of the special tokens, the flag for a leading one in prompts, and the chat template."""
    settings = tokenizer_settings(directory)
    ids = {added["content"]: added["id"] for added in content.get("added_tokens") or ()}
    ids = content["model"]["vocab"] | ids
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        token = settings.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token in ids:
            add(ids[token])
    first = _first_special(content.get("post_processor"))
    bos = settings.get("bos_token")
    bos = bos.get("content") if isinstance(bos, dict) else bos
    writer.add_add_bos_token(bool(settings.get("add_bos_token", first is not None and first == bos)))
    template = settings.get("chat_template")
    path = directory / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.is_file() else template
    if isinstance(template, str):
        writer.add_chat_template(template)


def _first_special(processor: Any) -> str | None:
    """Return the special token that a template post-processor puts before a text; None if there is none."""
    steps = processor.get("processors", [processor]) if isinstance(processor, dict) else []
    for step in steps:
        pieces = step.get("single") if step.get("type") == "TemplateProcessing" else None
        if pieces and "SpecialToken" in pieces[0]:
            return str(pieces[0]["SpecialToken"]["id"])
    return None


def _unknown(directory: Path, reason: str) -> DiagnosticError:
    return DiagnosticError(UnknownTokenizer(None, path=directory, reason=reason))


Bytes = NDArray[np.uint8]
BLOCK = 32


def packed(weight: Tensor, precision: Precision) -> Bytes:
    """Return the blocks of a tensor (..., C) as bytes (..., bytes of a row). Raises ValueError if a number is off the grid."""
    rows: Any = weight.flatten(0, -2)
    found = stored_codes(rows, precision, "a matrix")
    codes_N32: NDArray[np.int16] = found.codes.view(-1, BLOCK).numpy().astype(np.int16)
    halves = [found.scales, found.minima][: 1 + precision.minimum]
    first = torch.stack(halves, -1).view(len(codes_N32), -1).numpy().astype(np.float16).view(np.uint8)
    blocks = np.concatenate([first, *_coded(codes_N32, precision)], axis=1)
    return blocks.reshape(*weight.shape[:-1], -1)


def _coded(codes_N32: NDArray[np.int16], precision: Precision) -> list[Bytes]:
    if precision.bits == 8:
        return [codes_N32.astype(np.int8).view(np.uint8)]
    if precision.levels:
        offset = np.searchsorted(precision.levels, codes_N32).astype(np.uint8)
    else:
        offset = (codes_N32 - precision.low).astype(np.uint8)
    halves = ((offset[:, :16] & 0x0F) | ((offset[:, 16:] & 0x0F) << 4)).astype(np.uint8)
    if precision.bits == 4:
        return [halves]
    fifth = np.packbits(offset >> 4, axis=1, bitorder="little")
    return [fifth, halves]


def tensors_of(path: Path) -> list[Any]:
    """Return the tensors of a GGUF file. Raises ValueError, IndexError or OverflowError for another file."""
    return list(read_without_arrays(path).tensors)


def read_without_arrays(path: Path) -> Any:
    """Return gguf's reader, its array fields left empty. Raises ValueError, IndexError or OverflowError for no GGUF file."""
    import gguf

    class Reader(gguf.GGUFReader):
        """Reader that skips arrays: reading a vocabulary item by item takes longer than all tensors. Slices a plain array."""

        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = np.asarray(mapped)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != gguf.GGUFValueType.ARRAY or self.byte_order == "S":
                return super()._get_field_parts(orig_offs, raw_type)
            item, count = self._get(orig_offs, np.uint32)[0], int(self._get(orig_offs + 4, np.uint64)[0])
            at = orig_offs + 12
            if item == gguf.GGUFValueType.STRING:
                held = self._plain.data
                for _ in range(count):
                    at += 8 + int.from_bytes(held[at : at + 8], sys.byteorder)
                    if at > len(held):
                        raise ValueError("the file ends within a vocabulary")
            elif (scalar := self.gguf_scalar_to_np.get(gguf.GGUFValueType(item))) is not None:
                at += count * np.dtype(scalar).itemsize
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            return at - orig_offs, [], [], []

    return Reader(path)
