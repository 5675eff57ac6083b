"""Checkpoints of models that see pictures, too: their text part is the parent."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

from puzzledsl.child.checkpoint.contents import from_parent, load_child
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.families.registry import FAMILIES, computation_of_config, read_config, text_part
from puzzledsl.models.families.load import load_parent
from tests.tiny import tiny_model, tiny_tokenizer, tiny_tokens

SEEING: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 24},
    "qwen3_5_moe_text": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 24},
    "gemma3_text": {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2},
}  # fmt: skip
"""Family -> the part of a tiny model that sees."""


@pytest.mark.parametrize("family", SEEING)
def test_the_text_part_of_a_model_that_sees_is_a_parent(tmp_path: Path, family: str) -> None:
    text = tiny_model(family, layers=4).config
    whole = CONFIG_MAPPING[FAMILIES[family].whole](
        text_config=text.to_dict(), vision_config=SEEING[family], tie_word_embeddings=text.tie_word_embeddings
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(whole, dtype=torch.float32).eval()
    model.save_pretrained(tmp_path / "parent")
    tiny_tokenizer().save_pretrained(tmp_path / "parent")
    with torch.no_grad():
        expected = model(tiny_tokens()).logits
        parent = load_parent(tmp_path / "parent")
        assert torch.equal(parent(tiny_tokens()).logits, expected)
        write_checkpoint(from_parent(tmp_path / "parent"), tmp_path / "parent", tmp_path / "child")
        assert torch.equal(load_child(tmp_path / "child")(tiny_tokens()).logits, expected)
    content = json.loads((tmp_path / "parent" / "config.json").read_text())
    shape = read_config(tmp_path / "parent" / "config.json")
    assert shape is not None and shape.family == family and shape.layers == 4
    assert computation_of_config(content) == computation_of_config(text_part(content))
