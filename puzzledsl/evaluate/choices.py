"""Multiple choice: which ending does a model find likeliest, as a whole (accuracy) and a character (`_norm`).

An item's context is read once: its endings follow it in one row, each seeing the context and itself only.

    row        context … | ending 0 … | ending 1 … | ending 2 …
    positions  0 1 2 … c | c+1 c+2 …  | c+1 c+2 …  | c+1 c+2 …

Shape legend: B rows, T tokens of the longest row, H hidden size, V vocabulary, M scored tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.data.tasks import EncodedChoice, Item
from puzzledsl.ir.tables import Figure

ROW_TOKENS = {"cpu": 768, "cuda": 16384}  # tokens of one forward, padding included
CHUNK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens of one forward's row. `parents`: the place of the token each one follows (-1: none).

    `targets`: (place whose output predicts, token predicted, choice it belongs to).
    """

    ids: tuple[int, ...]
    parents: tuple[int, ...]
    targets: tuple[tuple[int, int, int], ...]


def shared_row(choices: Sequence[EncodedChoice]) -> Row:
    """All choices of an item in one row: their common beginning once, then what is left of each."""
    first = choices[0].ids
    common = min(choice.start for choice in choices)
    while any(choice.ids[:common] != first[:common] for choice in choices):
        common -= 1
    ids, parents = list(first[:common]), list(range(-1, common - 1))
    targets: list[tuple[int, int, int]] = []
    for index, choice in enumerate(choices):
        before = common - 1
        for place in range(common, len(choice.ids)):
            if place >= choice.start:
                targets.append((before, choice.ids[place], index))
            if place < len(choice.ids) - 1:  # the last token predicts nothing that counts
                ids.append(choice.ids[place])
                parents.append(before)
                before = len(ids) - 1
    return Row(tuple(ids), tuple(parents), tuple(targets))


def single_rows(choices: Sequence[EncodedChoice]) -> list[Row]:
    """A row a choice, read from left to right: needs no mask of its own."""
    rows = []
    for index, choice in enumerate(choices):
        ids = choice.ids[:-1]
        targets = tuple((p - 1, choice.ids[p], index) for p in range(choice.start, len(choice.ids)))
        rows.append(Row(ids, tuple(range(-1, len(ids) - 1)), targets))
    return rows


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel,
    items: Sequence[Sequence[EncodedChoice]],
    *,
    share_context: bool,
    advance: Callable[[int], None] = lambda items: None,
) -> list[list[float]]:
    """log p(choice | context) of each choice of each item. Items of like length share a forward.

    `share_context` needs a model all of whose layers see the whole row.
    """
    rows: list[tuple[int, Row]] = []
    for index, item in enumerate(items):
        rows += [(index, row) for row in ([shared_row(item)] if share_context else single_rows(item))]
    rows.sort(key=lambda pair: -len(pair[1].ids))
    scores = [[0.0] * len(item) for item in items]
    for batch in _batches(rows, ROW_TOKENS.get(model.device.type, ROW_TOKENS["cpu"])):
        where = [(index, choice) for index, row in batch for _, _, choice in row.targets]
        log_probs_M = _score(model, [row for _, row in batch], share_context).tolist()
        for (index, choice), value in zip(where, log_probs_M, strict=True):
            scores[index][choice] += value
        advance(len(batch))
    return scores


def _batches(rows: Sequence[tuple[int, Row]], tokens: int) -> list[list[tuple[int, Row]]]:
    """Runs of rows, longest first, of at most `tokens` tokens with padding (or one row)."""
    batches: list[list[tuple[int, Row]]] = []
    for pair in rows:
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0][1].ids) <= tokens:
            batches[-1].append(pair)
        else:
            batches.append([pair])
    return batches


def _score(model: PreTrainedModel, rows: Sequence[Row], share_context: bool) -> Tensor:
    """The log-probability of every target of every row in order, float64 [M]."""
    device, longest = model.device, max(len(row.ids) for row in rows)
    ids_BT = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row.ids)] = torch.tensor(row.ids)
    inputs: dict[str, Tensor] = {}
    if share_context:
        mask_BTT = torch.stack([visible(row, longest) for row in rows])
        inputs["attention_mask"] = mask_BTT[:, None].to(device)
        inputs["position_ids"] = (mask_BTT.sum(-1) - 1).to(device)  # how many tokens it follows
    base: Any = model.base_model
    states_BTH = base(input_ids=ids_BT.to(device), use_cache=False, **inputs).last_hidden_state
    wanted = [(i, place, token) for i, row in enumerate(rows) for place, token, _ in row.targets]
    rows_M, places_M, tokens_M = torch.tensor(wanted, device=device).T
    states_MH = states_BTH[rows_M, places_M]
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    found = []
    for start in range(0, len(wanted), CHUNK_TOKENS):
        part = slice(start, start + CHUNK_TOKENS)
        log_probs_CV = F.log_softmax(head(states_MH[part]).float(), dim=-1)
        found.append(log_probs_CV.gather(1, tokens_M[part, None])[:, 0].double().cpu())
    return torch.cat(found)


def visible(row: Row, length: int) -> Tensor:
    """Which tokens each token of a row sees: itself and what it follows; bool [length, length]. Padding sees itself."""
    seen = torch.eye(length, dtype=torch.bool)
    for place, before in enumerate(row.parents):
        if before >= 0:
            seen[place] |= seen[before]
    return seen


def right_answers(
    name: str, items: Sequence[Item], scores: Sequence[Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """For each item 1 or 0. `name`: the likeliest choice is right; `name_norm`: the likeliest a character of its text."""
    plain = [_best(row) == item.answer for item, row in zip(items, scores, strict=True)]
    normed = [
        _best([value / len(text) for value, text in zip(row, item.choices, strict=True)]) == item.answer
        for item, row in zip(items, scores, strict=True)
    ]
    return {name: tuple(map(float, plain)), f"{name}_norm": tuple(map(float, normed))}


def accuracy_figures(right: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """The shares of right answers, with standard errors."""
    return {name: _proportion(values) for name, values in right.items()}


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], -i))


def _proportion(right: Sequence[float]) -> Figure:
    share, count = sum(right) / len(right), len(right)
    return Figure(value=share, stderr=(share * (1 - share) / (count - 1)) ** 0.5 if count > 1 else None)
