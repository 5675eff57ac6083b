"""Checkpoint directory -> parent model and tokenizer. No code from the directory is ever run, no network is used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.parents.access import family_of
from puzzledsl.parents.errors import NoCheckpoint, UnreadableCheckpoint, WeightsDontFit


def read_config_json(directory: Path) -> dict[str, Any]:
    """config.json as a dictionary. Raises DiagnosticError (NoCheckpoint, UnreadableCheckpoint)."""
    if not directory.is_dir():
        raise DiagnosticError(NoCheckpoint(None, path=directory, reason="no such directory"))
    path = directory / "config.json"
    if not path.is_file():
        raise DiagnosticError(NoCheckpoint(None, path=directory, reason="it has no config.json"))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DiagnosticError(
            UnreadableCheckpoint(None, path=directory, reason=f"config.json: {error}")
        ) from error
    if not isinstance(content, dict):
        raise DiagnosticError(
            UnreadableCheckpoint(None, path=directory, reason="config.json is not an object")
        )
    return content


def load_config(directory: Path) -> PreTrainedConfig:
    """The config of a parent of a known family. Raises DiagnosticError."""
    read_config_json(directory)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (
        Exception
    ) as error:  # transformers raises many kinds for a bad config; all are the checkpoint's fault
        raise DiagnosticError(
            UnreadableCheckpoint(None, path=directory, reason=_first_line(error))
        ) from error
    family_of(config)
    return cast(PreTrainedConfig, config)


def load_parent(
    directory: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """The parent in evaluation mode, with no gradients, SDPA attention and weights in `dtype` on `device`.

    Raises DiagnosticError: NoCheckpoint, UnreadableCheckpoint, WeightsDontFit, UnknownFamily.
    """
    config = load_config(directory)
    model = load_weights(AutoModelForCausalLM, directory, config, dtype=dtype)
    return frozen(model, device)


def load_weights(
    model_class: Any, directory: Path, config: PreTrainedConfig, *, dtype: torch.dtype
) -> PreTrainedModel:
    """`from_pretrained` that insists on safetensors and on every weight. Raises DiagnosticError."""
    if not any(directory.glob("*.safetensors")):
        raise DiagnosticError(NoCheckpoint(None, path=directory, reason="it has no .safetensors weights"))
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                attn_implementation="sdpa",
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (
        Exception
    ) as error:  # a truncated file, wrong shapes …: whatever it is, these files cannot be loaded
        raise DiagnosticError(
            UnreadableCheckpoint(None, path=directory, reason=_first_line(error))
        ) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info.get(what) or ())
        if names:
            reason = f"{len(names)} {what.replace('_keys', '')} weights ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
            raise DiagnosticError(WeightsDontFit(None, path=directory, reason=reason))
    return cast(PreTrainedModel, model)


def frozen(model: PreTrainedModel, device: torch.device | str = "cpu") -> PreTrainedModel:
    """The same model on `device`, in evaluation mode, wanting no gradients."""
    untyped: Any = model
    untyped.eval().requires_grad_(False).to(device)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and warnings off the terminal: errors reach the user as diagnostics."""
    log: Any = logging  # transformers' logging, which is not typed
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint directory. Raises DiagnosticError (NoCheckpoint, UnreadableCheckpoint)."""
    if not (directory / "tokenizer.json").is_file() and not any(directory.glob("tokenizer*")):
        raise DiagnosticError(NoCheckpoint(None, path=directory, reason="it has no tokenizer"))
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise DiagnosticError(
            UnreadableCheckpoint(None, path=directory, reason=_first_line(error))
        ) from error
    return cast(PreTrainedTokenizerBase, tokenizer)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
