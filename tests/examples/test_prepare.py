"""Laws of examples/smollm2's scripts: prepare.py's pure steps, and the order of channels.py."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import load
from tests.tiny import tiny_model

prepare, channels = load("prepare"), load("channels")


def llama_cpp_permute(weight: Any, heads: int) -> Any:
    """Reorder the rows of q_proj and k_proj as llama.cpp's converter does."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


@given(heads=st.integers(1, 5), half=st.integers(1, 4), columns=st.integers(1, 3))
def test_unpermute_undoes_llama_cpp(heads: int, half: int, columns: int) -> None:
    weight = np.arange(heads * 2 * half * columns).reshape(heads * 2 * half, columns)
    assert np.array_equal(prepare.unpermute(llama_cpp_permute(weight, heads), heads), weight)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (" A man sits. ", "A man sits."),
        ("How to bake [title] Heat it. [step] Turn it on.", "How to bake. Heat it. Turn it on."),
        ("[header] How to swim", " How to swim"),  # the harness leaves this space: so do we
        ("two  spaces", "two spaces"),
    ],
)
def test_hellaswag_is_cleaned_as_the_harness_does(raw: str, clean: str) -> None:
    assert prepare.clean_hellaswag(raw) == clean


def test_questions_are_put_as_the_harness_puts_them() -> None:
    piqa = {"goal": "To join metal,", "sol1": "weld it", "sol2": "sew it", "label": 0}
    sciq = {"support": " Cells break away.", "question": "What breaks?", "correct_answer": "cells"}
    sciq |= {f"distractor{i}": f"wrong {i}" for i in (1, 2, 3)}
    arc = {"id": "x", "query": "Question: Why?\nAnswer:", "choices": ["so", "thus", "if"], "gold": 2}
    items = prepare.piqa_item(piqa), prepare.sciq_item(sciq), prepare.arc_item(arc)
    assert [(item["context"], item["choices"], item["answer"]) for item in items] == [
        ("Question: To join metal,\nAnswer:", ["weld it", "sew it"], 0),
        ("Cells break away.\nQuestion: What breaks?\nAnswer:", ["wrong 1", "wrong 2", "wrong 3", "cells"], 3),
        ("Question: Why?\nAnswer:", ["so", "thus", "if"], 2),
    ]


def test_without_overlap_drops_known_titles_and_shared_runs() -> None:
    run = "the quick brown fox jumps over the lazy dog and runs away from it all"
    assert len(run) >= 60
    articles = {"known": "new words", "quotes": f"Once, {run.upper()}.", "nearly": run[:50], "fresh": "other"}
    kept = prepare.without_overlap(articles, {"known": f"Before {run} after"})
    assert kept == {"nearly": run[:50], "fresh": "other"}


def test_tokenizer_splits_digits_and_gives_back_its_input() -> None:
    from tokenizers import pre_tokenizers

    alphabet = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "1234", "li"]
    kinds = [3] + [1] * (len(alphabet) - 1)
    tokenizer = prepare.build_tokenizer(alphabet, kinds, ["l i"])
    text = "a line with 12345 — é\n"
    encoded = tokenizer.encode(text + "<|end|>")
    assert [token for token in encoded.tokens if token.isdigit()] == list("12345")
    assert "li" in encoded.tokens and encoded.tokens[-1] == "<|end|>"
    assert tokenizer.decode(encoded.ids) == text


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "data"
    with suppress(RuntimeError), prepare.folder_in_one_step(target) as folder:
        (folder / "half").write_text("…")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with prepare.folder_in_one_step(target) as folder:
        (folder / "all").write_text("…")
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "all"]


@pytest.mark.parametrize("tied", [True, False])
def test_channels_in_another_order_are_the_same_function(tied: bool) -> None:
    """A seed is an order, in which no row is as it was."""
    model: Any = tiny_model(tied=tied).double()
    tokens = torch.arange(40).view(2, 20) % model.config.vocab_size
    before = model(tokens).logits
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    found, same, other = (channels.permute(weights, model.config.to_dict(), seed) for seed in (5, 5, 2))
    assert all((found[name] == same[name]).all() for name in weights)
    assert any((found[name] != other[name]).any() for name in weights)
    moved = [name for name, weight in found.items() if (weight != weights[name]).any()]
    assert {name.split(".")[-2] for name in moved} >= {"q_proj", "v_proj", "o_proj", "up_proj", "down_proj"}
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in found.items()}, strict=False)
    assert (model(tokens).logits - before).abs().max() < 1e-5  # norms are float32
