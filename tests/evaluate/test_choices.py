"""Endings that share their context's forward score as if each were read alone, from left to right."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.data.tasks import EncodedChoice, Item
from puzzledsl.evaluate import choices
from puzzledsl.evaluate.choices import (
    accuracy_figures,
    answers,
    can_share,
    score_choices,
    shared_row,
    single_rows,
    visible,
)
from puzzledsl.models.families.load import load_parent
from tests.children import MIXED, define, random_pieces
from tests.oracle_forward import oracle_logits
from tests.tiny import FAMILIES, save_tiny, tiny_model

FULL = (*MIXED[:-1], (GqaAttention(kv_heads=2, window=6, sinks=2), LinearFfn()))  # every kind


@st.composite
def items(draw):
    """Encoded choices over a small alphabet, so that endings too begin alike; the border may move a little."""
    token = st.integers(4, 9)
    context = draw(st.lists(token, min_size=1, max_size=9))
    made = []
    for _ in range(draw(st.integers(2, 4))):
        ids = [*context, *draw(st.lists(token, min_size=1, max_size=6))]
        start = draw(st.integers(max(1, len(context) - 1), len(context)))
        made.append(EncodedChoice(tuple(ids), start))
    return tuple(made)


@settings(deadline=None)
@given(item=items())
@example(item=(EncodedChoice((4, 5, 6), 2), EncodedChoice((4, 7, 8), 2)))  # a tokenizer's border
def test_a_shared_row_is_its_choices(item):
    """Each target sees through the row the beginning of its own choice, each at its own position."""
    row = shared_row(item)
    seen = visible(row, len(row.ids))
    scored: dict[int, list[int]] = {index: [] for index in range(len(item))}
    for place, token, index in row.targets:
        path = [row.ids[i] for i in range(len(row.ids)) if seen[place, i]]
        length = len(path)
        assert tuple(path) == item[index].ids[:length] and token == item[index].ids[length]
        scored[index].append(length)
    for index, choice in enumerate(item):
        assert scored[index] == list(range(choice.start, len(choice.ids)))
    assert len(row.ids) <= sum(len(r.ids) for r in single_rows(item))


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    base = tmp_path_factory.mktemp("choices")
    parent = save_tiny(base / "parent", layers=len(MIXED), scale=0.2)
    pieces = random_pieces(load_parent(parent), FULL)
    realise(define(FULL), parent, pieces, base / "child")
    return base / "child", load_child(base / "child")


def questions(count: int = 7, seed: int = 0) -> list[tuple[EncodedChoice, ...]]:
    dice = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        context = dice.integers(4, 260, dice.integers(1, 12)).tolist()
        endings = [dice.integers(4, 260, dice.integers(1, 8)).tolist() for _ in range(3)]
        found.append(tuple(EncodedChoice(tuple(context + end), len(context)) for end in endings))
    return found


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("budget", [1, 60, 4096])
def test_against_an_independent_forward(child, monkeypatch, share, budget):
    directory, model = child
    monkeypatch.setitem(choices.ROW_TOKENS, "cpu", budget)
    monkeypatch.setattr(choices, "CHUNK_TOKENS", 4)
    asked, heard = questions(), []
    found = score_choices(model, asked, share_context=share, advance=lambda items, _: heard.append(items))
    assert sum(heard) == len(asked), "each item is finished once"
    assert not torch.is_inference_mode_enabled()
    for item, row in zip(asked, found, strict=True):
        for choice, value in zip(item, row, strict=True):
            logits = oracle_logits(directory, list(choice.ids))
            log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
            wanted = sum(log_p[i - 1, choice.ids[i]] for i in range(choice.start, len(choice.ids)))
            assert value.log_prob == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sharing_changes_nothing_in_any_family(family, attention):
    """Against the model's own logits of each choice alone, without masks, rows or oneDNN."""
    wide = {"gpt_oss": 32, "gemma3_text": 20}
    window = {"sliding_window": wide[family]} if family in wide else {}
    model, asked = tiny_model(family, **window), questions(9, seed=5)
    model.set_attn_implementation(attention if model._supports_sdpa else "eager")
    assert can_share(model, 20)
    for share in (True, False):
        found = score_choices(model, asked, share_context=share)
        for item, row in zip(asked, found, strict=True):
            for choice, value in zip(item, row, strict=True):
                log_p = model(torch.tensor([choice.ids])).logits[0].log_softmax(-1)
                wanted = sum(float(log_p[i - 1, choice.ids[i]]) for i in range(choice.start, len(choice.ids)))
                assert value.log_prob == pytest.approx(wanted, abs=1e-4)


def test_models_that_take_no_mask_or_forget_do_not_share():
    model = tiny_model("mistral", sliding_window=12)
    assert can_share(model, 12) and not can_share(model, 13)
    model.config._attn_implementation = "flash_attention_2"
    assert not can_share(model, 12)


def test_accuracy_counts_wholes_and_characters():
    asked = [
        Item("c", ("ab", "abcdefgh"), 1),
        Item("c", ("ab", "abcd"), 0),
        Item("c", ("a", "b", "c", "d"), 1),
    ]
    scores = [
        [-3.0, -4.0],
        [-1.0, -3.0],
        [-2.0, -2.0, -3.0, -4.0],
    ]  # the first of equals counts, which is wrong
    found = answers("quiz", asked, scores)
    assert found.right == {"quiz": (0, 1, 0), "quiz_norm": (1, 1, 0)}
    assert found.chances == {"quiz": (0.5, 0.5, 0.25), "quiz_norm": (0.5, 0.5, 0.25)}
    figures = accuracy_figures(found.right)
    assert figures["quiz"].value == pytest.approx(1 / 3)
    assert figures["quiz_norm"].value == pytest.approx(2 / 3)
    assert figures["quiz_norm"].stderr == pytest.approx((2 / 9 / 2) ** 0.5)
    assert accuracy_figures({"one": (1.0,)})["one"].stderr is None
    plain = [Item("c", ("no", "yes"), 1, normalised=False), Item("c", ("a", "b"), 0)]
    found = answers("quiz", plain, [[-2.0, -2.4], [-1.0, -2.0]])
    assert found.right == {"quiz": (0, 1)}, "lengths count only where they should"
