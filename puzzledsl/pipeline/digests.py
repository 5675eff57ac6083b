"""Digests of a task's inputs: the meaning of declarations, the content of parents and of text."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from puzzledsl.base.files import matching, sha256_of
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir import nodes

PROVENANCE_KEYS = frozenset({"where", "runtime_where", "bound_where", "doc", "because", "name"})
FORMER_FIELDS: dict[type[Frozen], dict[str, object]] = {
    nodes.Space: {"whole_model": None},
    nodes.ReplaceOne: {"pairwise": False},
    nodes.Refine: {"method": "measured"},
}
"""Fields that declarations no longer have. Digests still count them, so that what was made before stays up to date."""
SAMPLED_CHUNK_BYTES = 1 << 16
SAMPLED_CHUNKS = 256


def digest_of(value: object) -> str:
    """SHA-256 of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def meaning(node: Frozen, without: Iterable[str] = ()) -> str:
    """Digest of a declaration without its name, comments and place in the file: moving a line makes nothing stale.

    `without`: fields that a task digests separately.
    """
    fields = node.model_dump(mode="json", exclude=set(without))
    return digest_of(_strip(fields | FORMER_FIELDS.get(type(node), {})))


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip(item) for key, item in value.items() if key not in PROVENANCE_KEYS}
    return [_strip(item) for item in value] if isinstance(value, list) else value


def parent_fingerprint(directory: Path) -> str:
    """Digest of a checkpoint: all of the small files; the size and 256 evenly spaced chunks of each safetensors file.

    A 140 GB parent is fingerprinted in well under a second; any retrained or converted checkpoint differs.
    """
    parts: dict[str, object] = {}
    for path in sorted(directory.glob("*")):
        if path.suffix == ".safetensors":
            parts[path.name] = _sampled(path)
        elif path.suffix in {".json", ".txt", ".model", ".jinja"} and path.is_file():
            parts[path.name] = sha256_of(path)
    return digest_of(parts)


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        step = max(SAMPLED_CHUNK_BYTES, size // SAMPLED_CHUNKS)
        for offset in range(0, size, step):
            file.seek(offset)
            digest.update(file.read(SAMPLED_CHUNK_BYTES))
    return digest.hexdigest()


def files_fingerprint(patterns: Iterable[str], base: Path) -> str:
    """Digest of every file that the globs match, relative to `base`."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in matching(base, pattern):
            found[os.path.relpath(path, base)] = sha256_of(path)
    return digest_of(found)


def data_fingerprint(data: nodes.Data, base: Path) -> str:
    """Digest of a data set: its declaration, and its files if it has any."""
    match data.source:
        case nodes.TextData() | nodes.JsonlData() | nodes.ParquetData() | nodes.TaskData() as source:
            return digest_of([meaning(data), files_fingerprint(source.paths, base)])
        case nodes.HfData(id=id):
            if not (base / id).is_dir():
                return meaning(data)
            return digest_of([meaning(data), files_fingerprint([f"{glob.escape(id)}/**/*"], base)])
        case nodes.SampledData(prompts=prompts):  # whoever reads it has the parent among its inputs, too
            return digest_of([meaning(data), files_fingerprint([prompts] if prompts else [], base)])
        case nodes.MixData():
            from puzzledsl.data.mixing import parts_of

            parts = [[data_fingerprint(part, base), weight] for part, weight in parts_of(data)]
            return digest_of(parts)
