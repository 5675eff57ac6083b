"""Parents from GGUF files: the function and the tokenizer are those of the model that the file was made of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from puzzledsl.cli.main import run
from puzzledsl.export.engines.worker import run as engine
from puzzledsl.export.gguf_parent import PAIRED, NotAParent, storage_type, write_parent
from puzzledsl.export.gguf_tokenizer import add_tokenizer
from tests.export.test_engines import request_for
from tests.export.test_gguf import byte_level
from tests.tiny import save_tiny, tiny_tokens

gguf = pytest.importorskip("gguf")
pytest.importorskip("llama_cpp_py_sync")


def made(folder: Path, family: str = "llama", kind: str = "F32") -> Path:
    """Write a tiny parent, and the file that llama.cpp's converter would make of it."""
    splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer = byte_level(pre_tokenizers.Sequence(splits))
    sizes = {"hidden": 64, "intermediate": 64, "head_dim": 16, "vocab": len(tokenizer)}
    parent = save_tiny(folder / "original", family, **sizes)
    tokenizer.save_pretrained(parent)
    model: Any = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
    config, names = model.config, gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.upper()], 9)
    writer = gguf.GGUFWriter(folder / "small.gguf", family)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, parent, config.vocab_size)
    for name, weight in model.named_parameters():
        value = weight.detach()
        if family == "llama" and name.split(".")[-2] in ("q_proj", "k_proj"):  # halves become pairs
            value = value.reshape(-1, 2, config.head_dim // 2, config.hidden_size).transpose(1, 2)
        stem, _, ending = name.rpartition(".")
        rows = value.reshape(weight.shape).numpy()
        quantised = gguf.GGMLQuantizationType[kind if weight.ndim > 1 else "F32"]
        packed = gguf.quants.quantize(rows, quantised)
        writer.add_tensor(f"{names.get_name(stem)}.{ending}", packed, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "small.gguf"


@pytest.mark.parametrize("family", list(PAIRED))
def test_a_parent_comes_back_as_llama_cpp_runs_it(tmp_path: Path, family: str) -> None:
    write_parent(path := made(tmp_path, family), tmp_path / "again")
    logits, tokens, prompt = [], [], tiny_tokens(1, 12)
    for name in ("original", "again"):
        model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32)
        logits.append(model(prompt).logits)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        tokens.append(tokenizer("Twelve 12345 and\n\n  more's").input_ids)
    assert torch.equal(*logits) and tokens[0] == tokens[1]
    _, found = engine("llama_cpp", request_for(path, prompt[0].tolist()))
    assert np.abs(found["logits.0.0"] - logits[1][0].detach().numpy()).max() < 1e-4


def test_what_is_no_parent(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"nothing")
    with pytest.raises(NotAParent, match="no GGUF file"):
        write_parent(tmp_path / "no.gguf", tmp_path / "out")
    whole = made(tmp_path).read_bytes()
    for old, new, reason in (
        (b"blk.0.attn_q", b"blk.0.attn_z", "no tensor `blk.0.attn_q.weight` of the size"),
        (b"blk.0.attn_q.weight", b"rope_freqs.weight\0\0", "it has no|rotary frequencies"),
        (b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lhama", "files of `lhama` are not read"),
    ):
        (tmp_path / "other.gguf").write_bytes(whole.replace(old, new, 1))
        with pytest.raises(NotAParent, match=reason):
            write_parent(tmp_path / "other.gguf", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_program_starts_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made(tmp_path, kind="Q8_0")
    assert storage_type(path) == "q8_0"
    program = tmp_path / "start.pzl"
    assert run(["new", str(program), "--parent", str(path), "--engine", "llama_cpp"]) == 0
    assert "(q8_0) into" in capsys.readouterr().err
    text = program.read_text()
    assert 'hf("small")' in text and "It was stored in q8_0" in text.splitlines()[0]
    assert run(["check", str(program)]) == 0
    (tmp_path / "bad.gguf").write_text("{}")
    assert run(["new", str(tmp_path / "bad"), "--parent", str(tmp_path / "bad.gguf")]) == 1
    assert "it is no GGUF file" in capsys.readouterr().err
