"""Load a parent model, its tokenizer, or a model with the layers of a child, from a checkpoint directory.

Never runs code from the directory and uses no network.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.block_configs import BLOCKS, base_content, is_child
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import child_of_config, shape_of_config, text_part
from puzzledsl.models import errors
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families import access
from puzzledsl.models.families.build import number_cache_slots, put
from puzzledsl.models.families.slots import allocate, classes_of, slots, source_layers, source_names
from puzzledsl.models.families.stored import select
from puzzledsl.models.families.tensors import LazyTensor, open_weights
from puzzledsl.models.kernels.products import FAST_SDPA, folded
from puzzledsl.models.transformers_private import decoded_floats, from_config, init_weights, supports_sdpa

OWN_KEYS = (
    *("model_type", "architectures", "auto_map", "base_model_type", "transformers_version", BLOCKS),
    "per_layer_config",  # of children of older versions
)
"""Keys of a child's config.json that its base family's config does not take."""


def config_of_child(
    directory: Path, content: Mapping[str, Any], *, as_parent: bool = False
) -> PreTrainedConfig:
    """Return the base family's config with `block_configs` (`as_parent`: `parent_blocks`). Raises DiagnosticError (NotAChild)."""
    try:
        child_of_config(content)
        base = base_content(content)
        kept = {key: value for key, value in base.items() if key not in OWN_KEYS}
        config = CONFIG_MAPPING[base["model_type"]](**decoded_floats(kept))
    except (BadConfig, KeyError, TypeError, ValueError) as error:
        problem = errors.NotAChild(None, path=directory, reason=f"bad config.json: {error}")
        raise DiagnosticError(problem) from error
    setattr(config, access.PARENT_BLOCKS if as_parent else BLOCKS, content[BLOCKS])
    return config


def model_class_of(config: PreTrainedConfig) -> type[Any]:
    """Return the family's causal LM; with the modules of `block_configs`, or `parent_blocks`, if the config has them."""
    base = classes_of(access.family_of(config).model_type).causal_lm
    if access.blocks_of(config) is None:
        return base

    class Child(base):  # type: ignore[misc, valid-type]
        """The family's causal LM with the child's modules in it."""

        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            # uninitialised modules in place of every sub-block that the child changes
            access.note_names(self, access.base_shape_of(self.config))
            for layer_idx, pair in enumerate(access.blocks_of(self.config) or ()):
                for sub_block, alternative in zip(SUB_BLOCKS, pair, strict=True):
                    if not alternative.is_parent:
                        module = build_alternative(self, layer_idx, alternative, of_base=True)
                        put(self, layer_idx, sub_block, module)
            access.note_names(self, access.shape_of(self.config))
            number_cache_slots(self)

    Child.__name__ = base.__name__
    return Child


def read_config_json(directory: Path) -> dict[str, Any]:
    """Return config.json; of a vision model, its text part. Raises DiagnosticError (NoCheckpoint, UnreadableCheckpoint)."""
    if not directory.is_dir():
        raise DiagnosticError(errors.NoCheckpoint(None, path=directory, reason="no such directory"))
    path = directory / "config.json"
    if not path.is_file():
        raise DiagnosticError(errors.NoCheckpoint(None, path=directory, reason="it has no config.json"))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(directory, f"config.json: {error}") from error
    if not isinstance(content, dict):
        raise _unreadable(directory, "config.json is not an object")
    return dict(text_part(content))


def load_config(directory: Path) -> PreTrainedConfig:
    """The config of a parent of a known family, or of a child as a parent. Raises DiagnosticError."""
    content = read_config_json(directory)
    if is_child(content):
        return config_of_child(directory, content, as_parent=True)
    if "model_type" in content:
        access.family_named(content["model_type"])
    try:  # before transformers makes lists of as many items as a number says
        shape_of_config(content)
    except BadConfig as error:
        raise _unreadable(directory, f"config.json: {error}") from error
    try:
        with quiet():
            whole = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            config = whole.get_text_config()
    except Exception as error:  # transformers raises many kinds; all are the checkpoint's fault
        raise _unreadable(directory, _first_line(error)) from error
    if hasattr(config, "quantization_config"):  # weights are dequantised as they are read
        del config.quantization_config
    return cast(PreTrainedConfig, config)


def weights_in(directory: Path, config: PreTrainedConfig) -> dict[str, LazyTensor]:
    """Return the weights of a checkpoint that the config describes, by canonical names. Raises DiagnosticError."""
    return select(directory, access.base_shape_of(config), open_weights(directory), access.blocks_of(config))


def load_parent(
    directory: Path,
    config: PreTrainedConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    room_bytes: int | None = None,
) -> PreTrainedModel:
    """Load a model in evaluation mode, without gradients, with SDPA attention and weights in `dtype` on `device`.

    `config`: by default `load_config`'s. The model is created without storage, then filled one tensor at a time: peak memory is
    its bytes plus one stored tensor, or one expert. With `room_bytes`, layers whose weights do not fit into it use those of
    others like them (`slots.source_layers`): such a model can be timed, but its outputs are wrong. Raises DiagnosticError:
    NoCheckpoint, UnreadableCheckpoint, DamagedWeights, WeightsDontFit, UnknownFamily.
    """
    config = load_config(directory) if config is None else config
    weights = weights_in(directory, config)
    model = empty_model(model_class_of(config), config, dtype, device)
    prefix = access.family_of(config).layers
    sources = {} if room_bytes is None else source_layers(weights, prefix, dtype, room_bytes)
    taken_from = source_names(weights, prefix, sources) if sources else {name: name for name in weights}
    with quiet():
        places = slots(model)
        allocate((slot for name, slot in places.items() if taken_from.get(name, name) == name), device, dtype)
        for name, weight in weights.items():
            if taken_from[name] == name:
                places[name].put(weight.read(), device, dtype)
        for name, source in taken_from.items():
            if name != source:
                place, shared = places[name], places[source]
                setattr(place.holder, place.name, getattr(shared.holder, shared.name))
        model.tie_weights()
        if (directory / "generation_config.json").is_file():
            try:
                model.generation_config = GenerationConfig.from_pretrained(directory, local_files_only=True)
            except Exception as error:
                reason = f"generation_config.json: {_first_line(error)}"
                raise _unreadable(directory, reason) from error
    return frozen(model, device)


def empty_model(
    model_class: Any, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device | str
) -> PreTrainedModel:
    """Return a model without storage for weights, but with buffers (rotary frequencies) on `device`. Raises DiagnosticError."""
    known = ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError
    with quiet():
        try:
            with torch.device("meta"):
                attention = FAST_SDPA if supports_sdpa(model_class) else "eager"
                model = from_config(model_class, config, attention, dtype)
        except known as error:  # of transformers' classes, for a value they do not know: an activation's name
            path = config.name_or_path or config.model_type
            raise _unreadable(path, f"config.json: {_first_line(error)}") from error
        _make_buffers(model, device)
    return model


def _make_buffers(model: PreTrainedModel, device: torch.device | str) -> None:
    """Compute the model's buffers by its own code; those that checkpoints hold are weights, and get storage alone."""
    held: Any = model
    stored = held.state_dict(keep_vars=True)
    for name, module in list(held.named_modules()):
        for own, buffer in module.named_buffers(recurse=False):
            if (f"{name}.{own}" if name else own) in stored:
                setattr(module, own, torch.empty_like(buffer, device=device))
        meta = [own for own, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        if meta and "config" in inspect.signature(type(module)).parameters:
            holder, _, own = name.rpartition(".")
            setattr(held.get_submodule(holder), own, type(module)(config=held.config).to(device))
        elif meta:
            for own in meta:
                setattr(module, own, torch.empty_like(getattr(module, own), device=device))
            with torch.no_grad():
                init_weights(held, module)


def frozen(model: PreTrainedModel, device: torch.device | str = "cpu") -> PreTrainedModel:
    """Move the model to `device`, in evaluation mode, without gradients, its head with the hook `folded`; return it."""
    untyped: Any = model
    untyped.eval().requires_grad_(False).to(device)
    untyped.get_output_embeddings().register_forward_pre_hook(folded)
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
    """Return the tokenizer of a checkpoint directory, none of whose code is run. Raises DiagnosticError."""
    if not (directory / "tokenizer.json").is_file() and not any(directory.glob("tokenizer*")):
        raise DiagnosticError(errors.NoCheckpoint(None, path=directory, reason="it has no tokenizer"))
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        if name := _code_of_tokenizer(directory):
            raise DiagnosticError(errors.TokenizerNeedsCode(None, path=directory, name=name)) from error
        raise _unreadable(directory, _first_line(error)) from error
    path = directory / "config.json"
    content = read_config_json(directory) if path.is_file() else {}
    named = content.get("eos_token_id")
    ends = [i for i in (named if isinstance(named, list) else [named]) if isinstance(i, int)]
    if ends and all(i >= len(tokenizer) for i in ends):
        reason = f"texts end with token {min(ends):,} (config.json), and it has {len(tokenizer):,}"
        raise DiagnosticError(errors.WrongTokenizer(None, path=directory, reason=reason))
    return cast(PreTrainedTokenizerBase, tokenizer)


def tokenizer_settings(directory: Path) -> dict[str, Any]:
    """Return tokenizer_config.json; empty if it is absent or is not a JSON object."""
    try:
        content = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _code_of_tokenizer(directory: Path) -> str | None:
    """Return the class that `auto_map` names for the tokenizer, the fast one first; None without one."""
    named = tokenizer_settings(directory).get("auto_map")
    classes = named.get("AutoTokenizer") if isinstance(named, dict) else named
    both = classes if isinstance(classes, list) else [classes]
    return next((name for name in reversed(both) if isinstance(name, str)), None)


def check_tokens(directory: Path, tokens: Tensor) -> None:
    """Raise DiagnosticError (WrongTokenizer) for token ids that the checkpoint's embedding has no row for."""
    rows = load_config(directory).vocab_size
    if tokens.numel() and (largest := int(tokens.max())) >= rows:
        reason = f"it makes token {largest:,} of this text, and the embedding has {rows:,} rows"
        raise DiagnosticError(errors.WrongTokenizer(None, path=directory, reason=reason))


def _unreadable(path: Path | str, reason: str) -> DiagnosticError:
    return DiagnosticError(errors.UnreadableCheckpoint(None, path=path, reason=reason))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
