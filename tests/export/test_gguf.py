"""GGUF files: every dtype, and a tokenizer that encodes as the parent's does or is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from puzzledsl.base.diagnostics import DiagnosticError, UnknownTokenizer
from puzzledsl.base.gguf_tokenizers import _LLAMA3, _QWEN2
from puzzledsl.child.checkpoint.contents import ChildFiles, from_directory, from_parent
from puzzledsl.child.definition import NotAGguf, RuntimeLacksFamily
from puzzledsl.export.engines.worker import run
from puzzledsl.export.gguf_file import write_gguf
from tests.export.test_engines import request_for
from tests.export.variants import MIXTURE, MOE, Made, Variant, make
from tests.tiny import save_tiny

gguf = pytest.importorskip("gguf")
SIZES = {"hidden": 64, "intermediate": 72, "head_dim": 16}
TEXTS = (
    "Hello world, it's 12345 o'clock!",
    "  leading,  double\n\nand\ttabs  ",
    "Zum Beispiel: 3 Äpfel, 日本語, emoji 🙂 and n\u0303.",
    "def f(x):\n    return x**2 # comment\r\n",
    "",
)
CORPUS = [*TEXTS, "the quick brown fox jumps over the lazy dog " * 4, "12 123 1234 it's we'll I'm"] * 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(Variant(MIXTURE, sizes=SIZES), tmp_path_factory.mktemp("gguf"))


DTYPES = {"f32": 1e-5, "f16": 0.01, "bf16": 0.05, "q8_0": 0.1}


@pytest.mark.parametrize(
    "variant", [Variant(MIXTURE, sizes=SIZES), MOE["moe-narrower"]], ids=["dense", "moe"]
)
def test_every_dtype(variant: Variant, tmp_path: Path) -> None:
    made, path = make(variant, tmp_path), tmp_path / "child.gguf"
    for dtype, tolerance in DTYPES.items():
        write_gguf(from_directory(made.child), made.child, path, dtype, name="tiny")  # type: ignore[arg-type]
        found = {tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
        narrow = (
            variant.family == "qwen3_moe" and dtype == "q8_0"
        )  # experts of 8 channels have no whole blocks
        assert found == {"F32", dtype.upper()} | ({"F16"} if narrow else set())
        logits = run("llama_cpp", request_for(path, made.prompt))[1]["logits.0.0"]
        assert np.linalg.norm(logits - made.logits) <= tolerance * np.linalg.norm(made.logits), dtype


def test_writing_is_deterministic_and_replaces_a_gguf_only(made: Made, tmp_path: Path) -> None:
    path, child, thesis = tmp_path / "child.gguf", from_directory(made.child), tmp_path / "thesis.tex"
    written = set()
    for target in (path, path, tmp_path / "again.gguf"):
        write_gguf(child, made.child, target, "f16", name="tiny")
        written.add(target.read_bytes())
    assert len(written) == 1
    thesis.write_text("x")
    for target in (thesis, tmp_path):
        with pytest.raises(DiagnosticError) as caught:
            write_gguf(child, made.child, target, "f16", name="tiny")
        assert caught.value.diagnostics[0].kind == NotAGguf
    assert thesis.read_text() == "x"


def byte_level(pre: pre_tokenizers.PreTokenizer, normalizer=None) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on a few lines, that splits text by `pre`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


KNOWN = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama-bpe": split(_LLAMA3),
    "qwen2": split(_QWEN2),
}


def tokenized(directory: Path, tokenizer: PreTrainedTokenizerFast, path: Path) -> list[list[int]]:
    """TEXTS as llama.cpp encodes them, with the tokenizer of a GGUF file."""
    from llama_cpp_py_sync import Llama

    tokenizer.save_pretrained(directory)
    write_gguf(from_parent(directory), directory, path, "f32", name="tiny")
    with Llama(str(path), n_ctx=64) as llama:
        return [[int(t) for t in llama.tokenize(text, add_special=False)] if text else [] for text in TEXTS]


@pytest.mark.parametrize("name", list(KNOWN))
def test_llama_cpp_encodes_as_the_parent_does(name: str, tmp_path: Path) -> None:
    tokenizer = byte_level(KNOWN[name])
    save_tiny(tmp_path / "parent", layers=1, vocab=len(tokenizer))
    found = tokenized(tmp_path / "parent", tokenizer, tmp_path / "m.gguf")
    assert found == [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]


def refused(files: ChildFiles, directory: Path) -> Any:
    """The diagnostic of writing a file, of which nothing is left."""
    path = directory.parent / "refused.gguf"
    with pytest.raises(DiagnosticError) as caught:
        write_gguf(files, directory, path, name="tiny")
    assert not path.exists()
    return caught.value.diagnostics[0]


@pytest.mark.parametrize(
    ("pre", "normalizer", "missing"),
    [
        (split(r"\p{N}{1,2}|\p{L}+"), None, 0),
        (pre_tokenizers.Whitespace(), None, 0),
        (KNOWN["gpt-2"], normalizers.Lowercase(), 0),
        (KNOWN["gpt-2"], None, 1),
    ],
    ids=["pattern", "whitespace", "lowercase", "rows"],
)
def test_a_tokenizer_that_llama_cpp_does_not_know_or_larger_than_the_embedding(
    pre, normalizer, missing: int, tmp_path: Path
) -> None:
    tokenizer = byte_level(pre, normalizer)
    parent = save_tiny(tmp_path / "parent", layers=1, vocab=len(tokenizer) - missing)
    tokenizer.save_pretrained(parent)
    found = refused(from_parent(parent), parent)
    assert found.kind == UnknownTokenizer and ("rows" in found.message) == bool(missing)


@pytest.mark.parametrize(
    "content", [None, "{", "[]", "{}", '{"model": {"type": "WordPiece", "vocab": {}, "merges": []}}']
)
def test_no_tokenizer_is_a_diagnostic(made: Made, content: str | None, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    if content is not None:
        (tmp_path / "none" / "tokenizer.json").write_text(content)
    assert refused(from_directory(made.child), tmp_path / "none").kind == UnknownTokenizer


def test_an_unchecked_rope_is_refused(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
    parent = save_tiny(tmp_path / "parent", layers=1, rope_parameters=yarn)
    found = refused(from_parent(parent), parent)
    assert found.kind == RuntimeLacksFamily and "`yarn`" in found.message


def test_the_chat_template_comes_along(tmp_path: Path) -> None:
    parent = save_tiny(tmp_path / "parent", layers=1)
    settings = json.loads((parent / "tokenizer_config.json").read_text())
    (parent / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "{{ messages }}"}))
    write_gguf(from_parent(parent), parent, tmp_path / "m.gguf", name="tiny")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == "{{ messages }}"
    assert fields["tokenizer.ggml.bos_token_id"].contents() == 1
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 2
