"""Find code in a child's directory that differs, by one byte or more, from the model code that puzzledsl writes.

Engines run the Python of a directory that `auto_map` and `model_file` name. A link is followed to its content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.checkpoint.write import MLX_MODEL_FILE, mlx_code, remote_code, remote_files
from puzzledsl.child.errors import UntrustedCode
from puzzledsl.models.families.load import read_config_json

CODE_SUFFIXES = (".py", ".pyc", ".pyo", ".pyw", ".pyd", ".so", ".pth")
CLASSES = (
    "configuration_decilm.DeciLMConfig",
    "modeling_decilm.DeciLMForCausalLM",
)
"""Every class that config.json of an exported child may name, as `module.class`."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """One file of a directory with code, or the name of code, that puzzledsl did not write."""

    path: Path
    reason: str


def refuse_foreign_code(directory: Path, child: ChildFiles) -> None:
    """Raise DiagnosticError (UntrustedCode) for each file that `foreign_code` finds. Runs nothing of the directory."""
    if found := foreign_code(directory, child):
        raise DiagnosticError(*(UntrustedCode(None, path=own.path, reason=own.reason) for own in found))


def foreign_code(directory: Path, child: ChildFiles) -> list[Foreign]:
    """Return the files that are not what puzzledsl writes for this child, sorted by path.

    Those are files of code, in any folder of the directory, and configurations that name other classes.
    """
    shipped = {name: remote_code(name, child).encode() for name in remote_files(child.shape)}
    shipped[MLX_MODEL_FILE] = mlx_code().encode()
    found = [*_files(directory, shipped), *_names(directory)]
    return sorted(found, key=lambda own: str(own.path))


def code_for(engine: str, directory: Path) -> bool:
    """Return True if an engine, told to trust the directory, runs model code in it."""
    config = read_config_json(directory)
    if engine == "mlx":
        return "model_file" in config
    named = config.get("auto_map")
    return engine in ("transformers", "vllm") and isinstance(named, dict) and "AutoModelForCausalLM" in named


def _files(directory: Path, shipped: dict[str, bytes]) -> Iterator[Foreign]:
    for folder, folders, names in os.walk(directory):
        for name in folders:
            if (path := Path(folder, name)).is_symlink():
                yield Foreign(path, "it is a link to a folder, whose code is not compared")
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in CODE_SUFFIXES:
                expected = shipped.get(name) if path.parent == directory else None
                if (reason := _difference(path, expected)) is not None:
                    yield Foreign(path, reason)


def _difference(path: Path, expected: bytes | None) -> str | None:
    if expected is None:
        return "puzzledsl writes no such file"
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if content == expected:
        return None
    ours, theirs = expected.splitlines(keepends=True), content.splitlines(keepends=True)
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    return f"line {min(len(ours), len(theirs)) + 1 if same is None else same + 1} differs"


def _names(directory: Path) -> Iterator[Foreign]:
    for path in directory.glob("*config.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            yield Foreign(path, f"it cannot be read ({error})")
            continue
        if isinstance(content, dict):
            own = CLASSES if path.name == "config.json" else ()
            yield from _named(path, content, own)


def _named(path: Path, content: dict[str, Any], own: Sequence[str]) -> Iterator[Foreign]:
    for key in ("auto_map", "custom_pipelines"):
        for name in _strings(content.get(key)):
            if name not in own:
                yield Foreign(path, f"its {key} names `{name}`")
    if "model_file" in content and (not own or content["model_file"] != MLX_MODEL_FILE):
        yield Foreign(path, f"its model_file names `{content['model_file']}`")


def _strings(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
