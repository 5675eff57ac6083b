"""Tasks of EleutherAI's lm-evaluation-harness, where `lm_eval` is installed: our models answer, its code asks and scores.

Shape legend: B rows, T tokens of the longest row, V vocabulary.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.diagnostics import DiagnosticError, Span
from puzzledsl.evaluate.errors import HarnessFailed, NoHarness, UnknownHarnessTask
from puzzledsl.suggest import closest

OWN_TASKS = "lm_eval"  # a folder beside the program, with the user's own task files
ROW_TOKENS = 4096  # tokens of one forward, padding included
MAX_NEW_TOKENS = 256
METRICS = {"acc": "", "acc_norm": "_norm", "exact_match": ""}  # of a sample -> what follows the task's name


@dataclass(frozen=True, slots=True)
class Harness:
    """What is asked: task or group names, examples before each question (None: as the task says), questions of a task."""

    tasks: tuple[str, ...]
    shots: int | None
    items: int | None
    folder: Path

    def check(self, span: Span) -> None:
        """Raises DiagnosticError where `lm_eval` is missing or a task is none of its."""
        if importlib.util.find_spec("lm_eval") is None:
            raise DiagnosticError(NoHarness(span))
        known = self._manager().all_tasks
        unknown = [
            UnknownHarnessTask(span, task=task, names=_names(task, known))
            for task in self.tasks
            if task not in known
        ]
        if unknown:
            raise DiagnosticError(*unknown)

    def answers(
        self, model: PreTrainedModel, tokenizer: Any, span: Span, advance: Callable[[int], None]
    ) -> dict[str, tuple[float, ...]]:
        """For each task, and `TASK_norm` where it has that metric, what each question scored, in the harness's order.

        A group's questions are those of all its tasks. Raises DiagnosticError where the harness fails, for example for
        want of a data set.
        """
        from lm_eval import simple_evaluate

        try:
            found = simple_evaluate(
                model=language_model(model, tokenizer, advance),
                tasks=list(self.tasks),
                num_fewshot=self.shots,
                limit=self.items,
                bootstrap_iters=0,
                log_samples=True,
                task_manager=self._manager(),
            )
        except Exception as error:  # the harness, its tasks and its data sets raise whatever they like
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise DiagnosticError(HarnessFailed(span, reason=reason)) from error
        samples, groups = found["samples"], found.get("group_subtasks", {})
        return {key: values for task in self.tasks for key, values in scores(task, samples, groups).items()}

    def _manager(self) -> Any:
        from lm_eval.tasks import TaskManager

        own = self.folder / OWN_TASKS
        return TaskManager(include_path=str(own) if own.is_dir() else None)


def _names(task: str, known: Sequence[str]) -> str:
    near = closest(task, known)
    return f"did you mean `{near}`?" if near else "`lm-eval ls tasks` lists them"


def scores(
    task: str, samples: Mapping[str, Sequence[Mapping[str, Any]]], groups: Mapping[str, Sequence[str]]
) -> dict[str, tuple[float, ...]]:
    """What each question of a task, or of all tasks of a group, scored: by TASK and TASK_norm."""
    found: dict[str, list[float]] = {}
    for name in leaves(task, groups):
        for sample in samples.get(name, ()):
            for metric, ending in METRICS.items():
                if metric in sample:
                    found.setdefault(f"{task}{ending}", []).append(float(sample[metric]))
    return {name: tuple(values) for name, values in found.items()}


def leaves(task: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks a group stands for, itself where it is none."""
    if not groups.get(task):
        return [task]
    return [leaf for member in groups[task] for leaf in leaves(member, groups)]


def language_model(model: PreTrainedModel, tokenizer: Any, advance: Callable[[int], None]) -> Any:
    """The harness's view of a model: log-likelihoods of endings and of whole texts, and greedy generation."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    positions = int(getattr(model.config, "max_position_embeddings", 2048))

    class Ours(TemplateLM):  # type: ignore[misc]
        """Loaded once, asked in batches of rows of like length."""

        @property
        def eot_token_id(self) -> int:
            return int(tokenizer.eos_token_id)

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            return list(tokenizer(string, **special)["input_ids"])

        def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
            rows = [((*before, *ending)[-positions - 1 :], len(ending)) for _, before, ending in requests]
            return endings(model, rows, advance)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            totals = []
            for request in requests:
                ids = self.tok_encode(request.args[0])
                windows = get_rolling_token_windows(ids, self.prefix_token_id, positions, 1)
                pairs = [make_disjoint_window(window) for window in windows]
                found = endings(model, [((*a, *b), len(b)) for a, b in pairs], lambda rows: None)
                totals.append(sum(value for value, _ in found))
                advance(1)
            return totals

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            texts = []
            for request in requests:
                context, settings = request.args
                length = int(settings.get("max_gen_toks", MAX_NEW_TOKENS))
                ids = self.tok_encode(context)[-(positions - length) :]
                texts.append(generate(model, tokenizer, ids, length, settings.get("until") or []))
                advance(1)
            return texts

    return Ours()


@torch.inference_mode()
def endings(
    model: PreTrainedModel, rows: Sequence[tuple[Sequence[int], int]], advance: Callable[[int], None]
) -> list[tuple[float, bool]]:
    """For each row, of which the last so many tokens are its ending: log p(ending | before), and whether greedy decoding
    would have said it."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
    found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
    while order:
        many = max(1, ROW_TOKENS // len(rows[order[0]][0]))
        batch, order = order[:many], order[many:]
        states = _states(model, [rows[i][0][:-1] for i in batch])
        for place, i in enumerate(batch):
            ids, length = rows[i]
            if length:
                found[i] = _ending(model, states[place, len(ids) - 1 - length : len(ids) - 1], ids[-length:])
        advance(len(batch))
    return found


def _states(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """Final hidden states [B, T, H]; what pads a row comes after it, where nothing that counts looks."""
    ids_BT = torch.zeros(len(rows), len(rows[0]), dtype=torch.long)
    for place, row in enumerate(rows):
        ids_BT[place, : len(row)] = torch.tensor(row)
    base: Any = model.base_model
    states: Tensor = base(input_ids=ids_BT.to(model.device), use_cache=False).last_hidden_state
    return states


def _ending(model: PreTrainedModel, states_TH: Tensor, ids: Sequence[int]) -> tuple[float, bool]:
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    log_probs_TV = F.log_softmax(head(states_TH).float(), dim=-1)
    ids_T = torch.tensor(ids, device=log_probs_TV.device)
    value = log_probs_TV.gather(1, ids_T[:, None]).double().sum()
    return float(value), bool((log_probs_TV.argmax(-1) == ids_T).all())


@torch.inference_mode()
def generate(
    model: PreTrainedModel, tokenizer: Any, ids: Sequence[int], length: int, until: Sequence[str]
) -> str:
    """What greedy decoding says after `ids`: at most `length` tokens, up to the first of the texts in `until`."""
    generator: Any = model
    given = torch.tensor([list(ids)], device=model.device)
    said = generator.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        max_new_tokens=length,
        stop_strings=list(until) or None,
        tokenizer=tokenizer,
        pad_token_id=tokenizer.eos_token_id,
    )
    text = str(tokenizer.decode(said[0, len(ids) :], skip_special_tokens=True))
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
