"""Inputs of an evaluation: token blocks, tasks and workloads, prepared before any model is loaded.

Tasks may be those of EleutherAI's lm-evaluation-harness (`lm_eval`): the harness asks and scores, our models answer.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.phrases import closest
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.ray_tasks import is_of_hardware
from puzzledsl.data.errors import AnswersNotFound
from puzzledsl.data.streams import SILENT, TokenRows, token_rows
from puzzledsl.data.tasks import EncodedChoice, Item, encode_item, read_tasks
from puzzledsl.evaluate import errors
from puzzledsl.evaluate.choices import Answers, can_share, score_choices, together
from puzzledsl.evaluate.compare import POOLED
from puzzledsl.evaluate.divergence import Counted
from puzzledsl.evaluate.prompts import Prompt, PromptTokens, continuations, prompts_of
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Data, Eval, Hardware, Program
from puzzledsl.ir.references import space_of
from puzzledsl.ir.runtimes import engine_of, measured_in
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.measure.place import device_of
from puzzledsl.measure.whole import Workload
from puzzledsl.models.families.load import load_config, load_tokenizer
from puzzledsl.plan.memory.stages import BLOCK_TOKENS

OWN_TASKS = "lm_eval"  # a folder beside the program, with the user's own task files
MAX_NEW_TOKENS = 256
METRICS = {"acc": "", "acc_norm": "_norm", "exact_match": ""}  # of a sample -> what follows the task's name


class Harness(Record):
    """The tasks to run: task or group names, few-shot examples (None: the task's default), questions per task (None: all)."""

    tasks: tuple[str, ...]
    shots: int | None
    items: int | None
    folder: Path

    def check(self, span: Span) -> None:
        """Raise DiagnosticError if `lm_eval` is missing or does not know a task."""
        if importlib.util.find_spec("lm_eval") is None:
            raise DiagnosticError(errors.NoHarness(span))
        known = self._manager().all_tasks
        unknown = []
        for task in (task for task in self.tasks if task not in known):
            near = closest(task, known)
            names = f"did you mean `{near}`?" if near else "`lm-eval ls tasks` lists them"
            unknown.append(errors.UnknownHarnessTask(span, task=task, names=names))
        if unknown:
            raise DiagnosticError(*unknown)

    def answers(self, model: PreTrainedModel, tokenizer: Any, span: Span) -> Answers:
        """Return the answers to each task's questions in the harness's order, under TASK, and TASK_norm for that metric.

        A group contains the questions of all its tasks. Raises DiagnosticError if the harness fails, for example
        without a data set. Exhausted memory and CUDA errors pass through: they are the loss of a worker.
        """
        from lm_eval import simple_evaluate

        try:
            found = simple_evaluate(
                model=language_model(model, tokenizer),
                tasks=list(self.tasks),
                num_fewshot=self.shots,
                limit=self.items,
                bootstrap_iters=0,
                log_samples=True,
                task_manager=self._manager(),
            )
        except DiagnosticError:
            raise
        except Exception as error:  # the harness, its tasks and its data sets raise whatever they like
            if is_of_hardware(error):
                raise
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise DiagnosticError(errors.HarnessFailed(span, reason=reason)) from error
        samples, groups = found["samples"], found.get("group_subtasks", {})
        return together(scores(task, samples, groups) for task in self.tasks)

    def _manager(self) -> Any:
        from lm_eval.tasks import TaskManager

        own = self.folder / OWN_TASKS
        return TaskManager(include_path=str(own) if own.is_dir() else None)


def scores(
    task: str, samples: Mapping[str, Sequence[Mapping[str, Any]]], groups: Mapping[str, Sequence[str]]
) -> Answers:
    """Return the score and chance of each question of a task or group, from `samples` by task and `groups` of the harness."""
    right: dict[str, list[float]] = {}
    guessed: dict[str, list[float]] = {}
    for name in leaves(task, groups):
        for sample in samples.get(name, ()):
            for metric, ending in METRICS.items():
                if metric in sample:
                    right.setdefault(f"{task}{ending}", []).append(float(sample[metric]))
                    # guessing gets 1 / choices right, and none of free-form answers or of a single ending
                    choices = len(sample.get("resps", ())) if metric.startswith("acc") else 0
                    chance = 1 / choices if choices > 1 else 0.0
                    guessed.setdefault(f"{task}{ending}", []).append(chance)
    return Answers(*({name: tuple(each) for name, each in found.items()} for found in (right, guessed)))


def leaves(task: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the tasks of a group; for a task, the task itself."""
    if not groups.get(task):
        return [task]
    return [leaf for member in groups[task] for leaf in leaves(member, groups)]


def language_model(model: PreTrainedModel, tokenizer: Any) -> Any:
    """Return the harness's interface to a model: log-likelihoods of endings, and greedy generation."""
    from lm_eval.api.model import TemplateLM

    positions = int(getattr(model.config, "max_position_embeddings", 2048))

    class OwnModel(TemplateLM):  # type: ignore[misc]
        """One loaded model, evaluated in batches of rows of similar length."""

        @property
        def eot_token_id(self) -> int:
            return int(tokenizer.eos_token_id)

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            return list(tokenizer(string, **special)["input_ids"])

        def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
            rows = [((*before, *ending)[-positions - 1 :], len(ending)) for _, before, ending in requests]
            return endings(model, rows)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            raise ValueError(
                "a task scores whole texts, of which there is no accuracy: name such a text in `data`"
            )

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            asked = []
            for request in requests:
                context, settings = request.args
                length = int(settings.get("max_gen_toks", MAX_NEW_TOKENS))
                ids = self.tok_encode(context)[-(positions - length) :]
                asked.append(Prompt(tuple(ids), length, tuple(settings.get("until") or ())))
            return continuations(model, tokenizer, asked, lambda prompts: None)

    return OwnModel()


def endings(model: PreTrainedModel, rows: Sequence[tuple[Sequence[int], int]]) -> list[tuple[float, bool]]:
    """Return log p(ending | context) of each row and True if greedy decoding gives the ending.

    A row is its tokens and the number of them, at the end, that are the ending. Consecutive rows with the same beginning are
    choices of one question: their context is computed once.
    """
    found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
    asked = [i for i, (_, length) in enumerate(rows) if length]
    groups = [list(group) for _, group in groupby(asked, key=lambda i: _before(*rows[i]))]
    items = [tuple(EncodedChoice(tuple(rows[i][0]), len(_before(*rows[i]))) for i in g) for g in groups]
    longest = max((len(ids) for ids, _ in rows), default=0)
    scores = score_choices(model, items, share_context=can_share(model, longest), greedy=True)
    for group, scored in zip(groups, scores, strict=True):
        for i, one in zip(group, scored, strict=True):
            found[i] = (one.log_prob, one.greedy)
    return found


def _before(ids: Sequence[int], length: int) -> tuple[int, ...]:
    return tuple(ids[: len(ids) - length])


RESERVED = (POOLED, "params", "checkpoint_bytes", *MEASURES)  # of results that are no task's
SEED = 0


class Task(Record):
    """A tokenised multiple-choice file."""

    name: str
    items: tuple[Item, ...]
    encoded: tuple[tuple[EncodedChoice, ...], ...]

    @property
    def longest(self) -> int:
        """Length in tokens of the longest context with a choice."""
        return max(len(choice.ids) for item in self.encoded for choice in item)


class Text(Record):
    """Held-out text under the name of its data. `blocks_NT`: token ids; `learned_NT`: positions that count, None if all do."""

    name: str
    blocks_NT: Tensor
    learned_NT: Tensor | None = None

    def counted(self) -> list[Counted | None]:
        """Return the positions of each block that count; None for each block if all do."""
        if self.learned_NT is None:
            return [None] * len(self.blocks_NT)
        mean = int(self.learned_NT.sum()) / len(self.learned_NT)
        return [Counted(learned_T.nonzero()[:, 0], mean) for learned_T in self.learned_NT]


class Timed(Record):
    """A scenario to time and the hardware to time it on: a device of PyTorch, or an engine that serves exported models."""

    scenario: str
    workload: Workload
    on: tuple[torch.device, torch.dtype] | Hardware


class Plan(Record):
    """All inputs of an evaluation. Its headline figures are those of the first of `texts`."""

    declaration: Eval
    texts: tuple[Text, ...]
    tasks: tuple[Task, ...]
    timed: tuple[Timed, ...]
    tokenizer: Any
    harness: Harness | None = None
    prompts: tuple[PromptTokens, ...] = ()


def plan_of(
    program: Program, eval: str, parent_dir: Path, base: Path, cache: Path, progress: Progress = SILENT
) -> Plan:
    """Read and tokenise the inputs; a scenario is timed at its largest declared batch, or at 1. Raises DiagnosticError."""
    declaration = program.evals[eval]
    tokenizer = load_tokenizer(parent_dir)
    positions = int(getattr(load_config(parent_dir), "max_position_embeddings", BLOCK_TOKENS))
    context = max(2, min(BLOCK_TOKENS, positions, declaration.tokens))

    def rows(data: Data) -> TokenRows:
        options: dict[str, Any] = {"seed": SEED, "cache": cache, "progress": progress}
        return token_rows(data, base, tokenizer, context=context, tokens=declaration.tokens, **options)

    texts = tuple(_text(declaration, data, rows(data)) for data in _texts(program, declaration))
    tasks = tuple(_task(declaration, base / path, tokenizer, positions) for path in declaration.tasks)
    for name in (task.name for task in tasks):
        twice = sum(task.name == name for task in tasks) > 1
        if twice or name in RESERVED:
            kind = errors.SameTaskName if twice else errors.ReservedTaskName
            raise DiagnosticError(kind(span_of(declaration.where), name=eval, stem=name))
    timed = []
    for scenario, hardware in measured_in(program, space_of(program, declaration)):
        workload = Workload.of(scenario, max(scenario.batches, default=1))
        on = device_of(hardware) if engine_of(hardware) is None else hardware
        timed.append(Timed(scenario.name, workload, on))
    blocks = {text.name: text.blocks_NT for text in texts}
    prompts = prompts_of(declaration, base, tokenizer, positions, blocks)
    named = declaration.lm_eval
    harness = Harness(named, declaration.shots, declaration.items, base) if named else None
    return Plan(declaration, texts, tasks, tuple(timed), tokenizer, harness, prompts)


def _text(declaration: Eval, data: Data, rows: TokenRows) -> Text:
    learned_NT = rows.learned(slice(None))
    if learned_NT is not None and not learned_NT.any():
        reason = f"none is among the {declaration.tokens} tokens that eval `{declaration.name}` reads"
        span = span_of(declaration.where)
        raise DiagnosticError(AnswersNotFound(span, name=data.name, reason=reason))
    return Text(data.name, rows[:], learned_NT)


def _texts(program: Program, declaration: Eval) -> tuple[Data, ...]:
    if declaration.data is not None:
        return tuple(program.data[name] for name in (declaration.data, *declaration.more_data))
    known = ", ".join(program.data) or "(declare one with `data NAME = text(…)`)"
    raise DiagnosticError(errors.NoEvalData(span_of(declaration.where), name=declaration.name, known=known))


def _task(declaration: Eval, path: Path, tokenizer: Any, positions: int) -> Task:
    items = read_tasks(path, declaration.items, span=span_of(declaration.where))
    task = Task(path.stem, items, tuple(encode_item(tokenizer, item) for item in items))
    if task.longest > positions:
        problem = errors.ItemTooLong(span_of(declaration.where), file=path, got=task.longest, limit=positions)
        raise DiagnosticError(problem)
    return task
