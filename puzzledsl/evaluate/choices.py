"""Multiple choice: the ending with the highest log-probability, in total (accuracy) or per character (`_norm`).

Where `can_share` allows it, a context is read once: its endings follow it in one row, each seeing it and itself only.

    row        context … | ending 0 … | ending 1 … | ending 2 …
    positions  0 1 2 … c | c+1 c+2 …  | c+1 c+2 …  | c+1 c+2 …

Shape legend: B rows, T tokens of the longest row, H hidden size, V vocabulary, M scored tokens.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.frozen import Record
from puzzledsl.data.tasks import EncodedChoice, Item, padded_batches
from puzzledsl.ir.tables import Figure
from puzzledsl.models.families.access import output_embedding, read_by_head
from puzzledsl.models.kernels import products as float32_products
from puzzledsl.models.kernels.products import FAST_SDPA, fast_products
from puzzledsl.models.machine import Workers
from puzzledsl.models.placement import is_paged
from puzzledsl.models.transformers_private import attention_of
from puzzledsl.plan.memory.stage_plan import tiles
from puzzledsl.plan.memory.stages import AT_ONCE

ROW_TOKENS = {"cpu": 768, "cuda": 16384}  # tokens of one forward, padding included
CHUNK_TOKENS = 128  # scored tokens at a time on a CPU: their logits stay in its cache
MASKED = (FAST_SDPA, "sdpa", "eager")  # attention implementations that take a mask of their own for each row


class Row(Record):
    """Tokens of one row. `parents`: place of the token before each, or -1. `targets`: (place that predicts, token, choice)."""

    ids: tuple[int, ...]
    parents: tuple[int, ...]
    targets: tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class Scored:
    """log p(choice | context). `greedy`: True if greedy decoding would write the choice, or if that was not asked for."""

    log_prob: float = 0.0
    greedy: bool = True


def shared_row(choices: Sequence[EncodedChoice]) -> Row:
    """Return one row with all choices of an item: their common beginning once, then the rest of each."""
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
    """Return one row for each choice, read from left to right without a special mask."""
    rows = []
    for index, choice in enumerate(choices):
        ids = choice.ids[:-1]
        targets = tuple((p - 1, choice.ids[p], index) for p in range(choice.start, len(choice.ids)))
        rows.append(Row(ids, tuple(range(-1, len(ids) - 1)), targets))
    return rows


def can_share(model: PreTrainedModel, longest: int) -> bool:
    """True if endings may share their context's row: attention takes a mask, and the parent has no window below `longest` tokens.

    The parent's window counts places, which are no distances in such a row; windows of alternatives count `position_ids`.
    """
    config: Any = model.config
    window = getattr(config, "sliding_window", None)
    return attention_of(config) in MASKED and (not window or longest <= window)


Advance = Callable[[int, Sequence[Row]], None]


@torch.inference_mode()
def score_choices(
    model: PreTrainedModel,
    items: Sequence[Sequence[EncodedChoice]],
    *,
    share_context: bool,
    greedy: bool = False,
    advance: Advance = lambda items, rows: None,
) -> list[list[Scored]]:
    """Return log p(choice | context) of each item's choices; with `greedy`, which of them greedy decoding would write.

    `share_context` needs `can_share`. `advance` gets the number of finished items and the rows that were measured.
    """
    rows: list[tuple[int, Row]] = []
    for index, item in enumerate(items):
        rows += [(index, row) for row in ([shared_row(item)] if share_context else single_rows(item))]
    rows.sort(key=lambda pair: -len(pair[1].ids))
    scores = [[Scored() for _ in item] for item in items]
    waiting = Counter(index for index, _ in rows)

    def measured(batch: list[tuple[int, Row]]) -> tuple[list[float], list[bool]]:
        with fast_products(model.device):
            return _score(model, [row for _, row in batch], share_context, greedy)

    most = ROW_TOKENS.get(model.device.type, ROW_TOKENS["cpu"])
    batches = padded_batches(rows, lambda pair: len(pair[1].ids), most)
    with Workers(model.device, shared=not is_paged(model), most=AT_ONCE) as workers:
        for batch, done in workers.each(measured, batches):
            where = [(index, choice) for index, row in batch for _, _, choice in row.targets]
            for (index, choice), value, best in zip(where, *done, strict=True):
                scores[index][choice].log_prob += value
                scores[index][choice].greedy &= best
            waiting.subtract(index for index, _ in batch)
            finished = sum(waiting[index] == 0 for index in {index for index, _ in batch})
            advance(finished, [row for _, row in batch])
    return scores


def _score(
    model: PreTrainedModel, rows: Sequence[Row], share_context: bool, greedy: bool
) -> tuple[list[float], list[bool]]:
    """Return every target's log-probability, row by row; with `greedy` also True if it is the likeliest token, else all True."""
    device, longest = model.device, max(len(row.ids) for row in rows)
    ids_BT = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row.ids)] = torch.tensor(row.ids)
    inputs: dict[str, Tensor] = {}
    if share_context:
        mask_BTT = torch.stack([visible(row, longest) for row in rows])
        # to add to attention scores: every implementation of `MASKED` reads that alike
        added_BTT = torch.zeros(mask_BTT.shape, dtype=model.dtype)
        added_BTT.masked_fill_(~mask_BTT, torch.finfo(model.dtype).min)
        inputs["attention_mask"] = added_BTT[:, None].to(device)
        inputs["position_ids"] = (mask_BTT.sum(-1) - 1).to(device)  # how many tokens it follows
    base: Any = model.base_model
    states_BTH = base(input_ids=ids_BT.to(device), use_cache=False, **inputs).last_hidden_state
    wanted = [(i, place, token) for i, row in enumerate(rows) for place, token, _ in row.targets]
    rows_M, places_M, tokens_M = torch.tensor(wanted, device=device).T
    states_MH = read_by_head(model, states_BTH[rows_M, places_M])
    log_probs: list[float] = []
    likeliest: list[bool] = []
    chunk = CHUNK_TOKENS if device.type == "cpu" else tiles(device.type).divergence_positions
    for start in range(0, len(wanted), chunk):
        part = slice(start, start + chunk)
        logits_CV = _logits(model, states_MH[part])
        log_probs += F.log_softmax(logits_CV, dim=-1).gather(1, tokens_M[part, None])[:, 0].tolist()
        likeliest += (logits_CV.argmax(-1) == tokens_M[part]).tolist() if greedy else [True] * len(logits_CV)
    return log_probs, likeliest


def _logits(model: PreTrainedModel, states_MH: Tensor) -> Tensor:
    """Return float32 logits [M, V]. On a GPU, those of a bfloat16 model are not rounded to bfloat16."""
    if states_MH.device.type == "cuda":
        return float32_products.product(states_MH, output_embedding(model).T)
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return cast(Tensor, head(states_MH)).float()


def visible(row: Row, length: int) -> Tensor:
    """Return a row's mask, bool [length, length]: a token sees itself and all tokens that it follows; padding sees itself."""
    seen = torch.eye(length, dtype=torch.bool)
    for place, before in enumerate(row.parents):
        if before >= 0:
            seen[place] |= seen[before]
    return seen


class Answers(Record):
    """By figure (a task's name, and `NAME_norm`), one value an item: right (1) or wrong (0), and the chance to guess right."""

    right: dict[str, tuple[float, ...]] = field(default_factory=dict)
    chances: dict[str, tuple[float, ...]] = field(default_factory=dict)


def together(answers: Iterable[Answers]) -> Answers:
    """Merge the answers to several tasks."""
    found = Answers()
    for one in answers:
        found.right.update(one.right)
        found.chances.update(one.chances)
    return found


def answers(name: str, items: Sequence[Item], scores: Sequence[Sequence[float]]) -> Answers:
    """Mark items: `name` by the likeliest choice; `name_norm`, if all are `normalised`, by the likeliest for its characters."""
    plain = [_best(row) == item.answer for item, row in zip(items, scores, strict=True)]
    normed = [
        _best([value / len(text) for value, text in zip(row, item.choices, strict=True)]) == item.answer
        for item, row in zip(items, scores, strict=True)
    ]
    right = {name: tuple(map(float, plain))}
    if all(item.normalised for item in items):
        right[f"{name}_norm"] = tuple(map(float, normed))
    return Answers(right, dict.fromkeys(right, tuple(1 / len(item.choices) for item in items)))


def accuracy_figures(right: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """Return the share of right answers by figure, with standard errors (None for one item)."""
    found = {}
    for name, values in right.items():
        share, count = sum(values) / len(values), len(values)
        stderr = (share * (1 - share) / (count - 1)) ** 0.5 if count > 1 else None
        found[name] = Figure(value=share, stderr=stderr)
    return found


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], -i))
