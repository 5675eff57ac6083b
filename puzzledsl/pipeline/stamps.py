"""Records of tasks: stamps of finished ones, with the digests of their inputs and outputs, and reasons of failed ones.

A stamp is written last. A reason is removed when its task is done.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import matching, sha256_of, write_text
from puzzledsl.base.frozen import Frozen
from puzzledsl.base.version import __version__
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Artefact, without_provenance
from puzzledsl.ir.tables import Failure, Problem

FORMER_FIELDS: dict[type[Frozen], dict[str, object]] = {
    nodes.Space: {"whole_model": None},
    nodes.ReplaceOne: {"pairwise": False, "around": None, "rounds": 1, "top_k": None},
    nodes.Refine: {"method": "measured"},
}
"""Fields that declarations no longer have. Digests still count them, so that what was made before stays up to date."""
SAMPLED_CHUNK_BYTES = 1 << 16
SAMPLED_CHUNKS = 256


def digest_of(value: object) -> str:
    """SHA-256 of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def meaning(node: Frozen, without: Iterable[str] = ()) -> str:
    """Digest of a declaration but for its name, comments, place, and fields that are digested separately (`without`)."""
    fields = node.model_dump(mode="json", exclude=set(without))
    return digest_of(without_provenance(fields | FORMER_FIELDS.get(type(node), {})))


def parent_fingerprint(directory: Path) -> str:
    """Digest of a checkpoint, fast for 140 GB: all small files; size and 256 evenly spaced chunks of each safetensors file."""
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
        case nodes.MixData():
            from puzzledsl.data.counts import parts_of

            parts = [[data_fingerprint(part, base), weight] for part, weight in parts_of(data)]
            return digest_of(parts)


class Stamp(Artefact):
    """The file `build/stamps/STAGE-NAME.json`. `outputs`: path relative to the build directory -> SHA-256."""

    stage: str
    name: str
    made_by: str
    outputs: dict[str, str]

    @property
    def title(self) -> str:
        """The task's stage and name: `score kl`."""
        return f"{self.stage} {self.name}".strip()


class Stamps:
    """The stamps of one build directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage: str, name: str) -> Path:
        """Return the path of a task's stamp."""
        return self.root / "stamps" / f"{stage}-{name}.json"

    def read(self, stage: str, name: str) -> Stamp | None:
        """Return the stamp; None if there is no readable one."""
        return Stamp.of_file(self.path(stage, name))

    def all(self) -> Iterator[Stamp]:
        """Return every readable stamp, by stage and name."""
        return filter(None, map(Stamp.of_file, sorted((self.root / "stamps").glob("*.json"))))

    def damaged(self, stamp: Stamp) -> list[str]:
        """Return the outputs that are missing or not the same, byte for byte, as paths relative to the build directory."""
        return [path for path, digest in stamp.outputs.items() if not self._matches(path, digest)]

    def vouches(self, stage: str, name: str, path: Path) -> bool:
        """Return True if `path` is, byte for byte, an output of the finished task."""
        stamp, relative = self.read(stage, name), self._relative(path)
        digest = None if stamp is None else stamp.outputs.get(relative)
        return digest is not None and self._matches(relative, digest)

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), self.root.resolve())).as_posix()

    def _matches(self, relative: str, digest: str) -> bool:
        path = self.root / relative
        try:
            return path.is_file() and sha256_of(path) == digest
        except OSError:  # a disk that cannot read it back
            return False

    def write(self, stage: str, name: str, inputs: dict[str, str], outputs: list[Path]) -> Stamp:
        """Record a finished task. A directory among `outputs` includes every file below it."""
        found = (file for path in outputs for file in ([path] if path.is_file() else path.rglob("*")))
        files = sorted(filter(Path.is_file, found))
        digests = {self._relative(file): sha256_of(file) for file in files}
        made_by = f"puzzledsl {__version__}"
        stamp = Stamp(stage=stage, name=name, made_by=made_by, inputs=inputs, outputs=digests)
        write_text(self.path(stage, name), stamp.canonical_json())
        return stamp


class Unfinished(DiagnosticError):
    """Ends a task that could make a part of its outputs."""

    def __init__(self, *diagnostics: Diagnostic, outputs: Sequence[Path] = ()) -> None:
        super().__init__(*diagnostics)
        self.outputs = list(outputs)


def failure_of(build: BuildDir, stage: str, name: str) -> Failure | None:
    """Return why a task failed when it was last tried; None if it did not."""
    return Failure.of_file(build.failure(stage, name))


def failures(build: BuildDir) -> Iterator[Failure]:
    """Return every record, by stage and name."""
    return filter(None, map(Failure.of_file, sorted(build.failure("", "").parent.glob("*.json"))))


def record(build: BuildDir, stage: str, name: str, error: DiagnosticError) -> None:
    """Write why a task failed."""
    problems = tuple(Problem(code=d.code, message=d.message) for d in error.diagnostics)
    found = Failure(stage=stage, name=name, problems=problems, partly=isinstance(error, Unfinished))
    write_text(build.failure(stage, name), found.canonical_json())


def forget(build: BuildDir, stage: str, name: str) -> None:
    """Remove the record of a task that is done, or that the program has no longer."""
    build.failure(stage, name).unlink(missing_ok=True)
