"""Child -> checkpoint directory in the DeciLM / nemotron-nas layout.

The directory appears whole or not at all, and the same child gives the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, cast

from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.export.card import model_card
from puzzledsl.export.errors import NotDescribed, WouldOverwrite
from puzzledsl.modeling.block_configs import from_block_configs
from puzzledsl.modeling.child import CHILD_MODEL_TYPE
from puzzledsl.parents.access import family_of, shape_of
from puzzledsl.parents.load import read_config_json

COPIED_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
REMOTE_FILES = ("configuration_decilm.py", "modeling_decilm.py")


def save_child(
    child: PreTrainedModel,
    base_dir: Path,
    out_dir: Path,
    card: str | None = None,
    *,
    name: str | None = None,
    parent: str | None = None,
) -> None:
    """Write a child made by `assemble` or `load_child` (and perhaps trained since) to `out_dir`.

    `base_dir`: the parent's or another child's directory, for config.json and the tokenizer. Raises DiagnosticError.
    """
    refuse_to_overwrite(out_dir)
    blocks = getattr(child.config, "block_configs", None)
    if blocks is None:
        raise DiagnosticError(NotDescribed(None, path=out_dir))
    if card is None:
        shape, params = (
            shape_of(child.config),
            sum(weight.numel() for weight in child.parameters()),
        )
        layers = from_block_configs(blocks, shape)
        card = model_card(name or out_dir.name, parent or base_dir.name, shape, layers, params)
    with appearing(out_dir) as directory:
        save_torch_state_dict(weights_of(child), directory, max_shard_size="5GB")
        content = child_config_json(child, read_config_json(base_dir))
        (directory / "config.json").write_text(
            json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        for file_name in REMOTE_FILES:
            (directory / file_name).write_text(
                remote_code(file_name, family_of(child).model_type), encoding="utf-8"
            )
        for file_name in COPIED_FILES:
            if (base_dir / file_name).is_file():
                shutil.copyfile(base_dir / file_name, directory / file_name)
        (directory / "README.md").write_text(card, encoding="utf-8")


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors to store, in order of name; a head tied to the embedding is left out."""
    state = {name: weight.detach().cpu().contiguous() for name, weight in sorted(model.state_dict().items())}
    if model.config.tie_word_embeddings:
        state.pop(f"{family_of(model).head}.weight", None)
    return state


def child_config_json(child: PreTrainedModel, base: dict[str, Any]) -> dict[str, Any]:
    """The base checkpoint's config.json, made to describe the child. No path of this machine is kept."""
    content = {key: value for key, value in base.items() if key not in ("_name_or_path", "torch_dtype")}
    return content | {
        "model_type": CHILD_MODEL_TYPE,
        "base_model_type": family_of(child).model_type,
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_decilm.DeciLMConfig",
            "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
        },
        "block_configs": cast(Any, child.config).block_configs,
        "dtype": str(child.dtype).removeprefix("torch."),
    }


def remote_code(file_name: str, model_type: str) -> str:
    """The code that travels with a checkpoint, written for Llama; other families' classes differ in their prefix only."""
    text = (resources.files("puzzledsl.export") / "remote" / file_name).read_text(encoding="utf-8")
    return text.replace("llama", model_type).replace("Llama", model_type.capitalize())


def refuse_to_overwrite(out_dir: Path) -> None:
    """Raise DiagnosticError (WouldOverwrite) unless `out_dir` is absent, empty, or an earlier child."""
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    if not (out_dir / "config.json").is_file() or "block_configs" not in read_config_json(out_dir):
        raise DiagnosticError(WouldOverwrite(None, path=out_dir))


@contextmanager
def appearing(out_dir: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `out_dir`; on success it takes `out_dir`'s place, on failure it is removed."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        for path in temporary.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        if out_dir.exists():
            aside = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}.", suffix=".old"))
            out_dir.replace(aside)
            temporary.replace(out_dir)
            shutil.rmtree(aside)
        else:
            temporary.replace(out_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
