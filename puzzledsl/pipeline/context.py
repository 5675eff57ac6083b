"""State shared by all tasks of a run: the checked program, its directories and the progress reporter; and records of tasks.

The records are stamps of finished tasks, with the digests of their inputs and outputs, and the reasons why other tasks failed.
A stamp is written after its task's outputs. A reason is removed when its task is done.
"""

import glob
import hashlib
import json
import os
import shlex
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import matching, sha256_of, write_text
from puzzledsl.base.frozen import Frozen
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.base.version import __version__
from puzzledsl.cluster.tasks import Cluster, Executor
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Artefact, span_of, without_provenance
from puzzledsl.ir.tables import Failure, Problem
from puzzledsl.pipeline import errors

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
    """Digest of a checkpoint, fast for 140 GB: whole config and tokenizer files; size and spaced chunks of safetensors files."""
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
    """One digest of the names and contents of all files that the globs `patterns`, relative to `base`, match."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in matching(base, pattern):
            found[os.path.relpath(path, base)] = sha256_of(path)
    return digest_of(found)


def data_fingerprint(data: nodes.Data, base: Path) -> str:
    """Digest of a data set: its declaration and the contents of its local files; of a mix, its parts and their weights."""
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
        """Return every readable stamp, ordered by stage and name."""
        return filter(None, map(Stamp.of_file, sorted((self.root / "stamps").glob("*.json"))))

    def damaged(self, stamp: Stamp) -> list[str]:
        """Return the outputs that are missing or changed since the stamp, as paths relative to the build directory."""
        return [path for path, digest in stamp.outputs.items() if not self._matches(path, digest)]

    def vouches(self, stage: str, name: str, path: Path) -> bool:
        """Return True if the task's stamp lists `path` as an output, and the file has not changed since."""
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
    """Raised by a task that made only some of its outputs, which are in `outputs`. The diagnostics say what failed."""

    def __init__(self, *diagnostics: Diagnostic, outputs: Sequence[Path] = ()) -> None:
        super().__init__(*diagnostics)
        self.outputs = list(outputs)


def failure_of(build: BuildDir, stage: str, name: str) -> Failure | None:
    """Return why a task failed when it was last tried; None if it did not."""
    return Failure.of_file(build.failure(stage, name))


def failures(build: BuildDir) -> Iterator[Failure]:
    """Return the record of every task that failed when it was last tried, ordered by stage and name."""
    return filter(None, map(Failure.of_file, sorted(build.failure("", "").parent.glob("*.json"))))


def record(build: BuildDir, stage: str, name: str, error: DiagnosticError) -> None:
    """Write why a task failed, for `failure_of` to read. An `Unfinished` error means that it failed in part."""
    problems = tuple(Problem(code=d.code, message=d.message) for d in error.diagnostics)
    found = Failure(stage=stage, name=name, problems=problems, partly=isinstance(error, Unfinished))
    write_text(build.failure(stage, name), found.canonical_json())


def forget(build: BuildDir, stage: str, name: str) -> None:
    """Remove a task's record of failure, if there is one."""
    build.failure(stage, name).unlink(missing_ok=True)


T = TypeVar("T", bound=Artefact)
Key = tuple[str, str]
"""Stage and name of a task."""


@dataclass
class Context:
    """One run of the program in `file`, whose text is `source`. Relative paths in it start from `base`, the file's directory."""

    file: Path
    program: nodes.Program
    build: BuildDir
    source: str
    progress: Progress = field(default_factory=Silent)
    on: str | None = None  # the Ray cluster that works (`--on`)
    heal: bool = True  # children are healed after assembly

    @property
    def base(self) -> Path:
        """The directory of the `.pzl` file."""
        return self.file.parent

    @property
    def typed(self) -> str:
        """The path of the `.pzl` file, quoted for a shell, to stand in commands that messages suggest."""
        return shlex.quote(str(self.file))

    @property
    def cluster(self) -> Cluster | None:
        """The Ray cluster `on`, or None without one. It is connected when a stage first needs it, within a `session`."""
        known: dict[str, Cluster] = self.__dict__.setdefault("_clusters", {})
        return None if self.on is None else known.setdefault(self.on, Cluster(self.on))

    @property
    def executor(self) -> Executor:
        """The executor of parallel work: on the cluster's workers, or in this process if there is no cluster."""
        if (cluster := self.cluster) is None:
            return Executor()
        from puzzledsl.cluster.ray_tasks import RayExecutor

        return RayExecutor(cluster)

    def session(self) -> AbstractContextManager[None]:
        """Return a context in which all stages share one connection to the cluster."""
        return nullcontext() if self.cluster is None else self.cluster.session()

    @cached_property
    def stamps(self) -> Stamps:
        """The record of finished tasks."""
        return Stamps(self.build.root)

    def parent_directory(self, space: str, stage: str) -> Path:
        """Return the directory of a space's parent checkpoint, downloading a Hub id. Raises DiagnosticError if there is none."""
        parent = self.program.parents[self.program.spaces[space].parent]
        source, span = parent.source, span_of(parent.where)
        if not isinstance(source, nodes.HfSource):
            raise DiagnosticError(errors.ParentHasNoWeights(span, stage=stage, name=parent.name))
        if ((local := self.base / source.id) / "config.json").is_file():
            return local
        from huggingface_hub import snapshot_download

        patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.txt"]
        try:
            return Path(snapshot_download(source.id, revision=source.revision, allow_patterns=patterns))
        except Exception as error:  # the hub client raises many kinds: offline, unknown id, gated, bad name
            help = f"make or download the checkpoint, or correct the path ({type(error).__name__})"
            if (prepare := self.base / "prepare.py").is_file():
                help = f"`python {prepare}` makes it"
            problem = errors.ParentNotFound(span, name=parent.name, id=source.id, help=help)
            raise DiagnosticError(problem) from error

    def fingerprint(self, space: str, stage: str) -> str:
        """Return the digest of a space's parent: weights and tokenizer. Raises DiagnosticError if they are unreadable."""
        directory = self.parent_directory(space, stage)
        known = self.__dict__.setdefault("_fingerprints", {})
        if directory not in known:
            try:
                known[directory] = parent_fingerprint(directory)
            except OSError as error:
                parent = self.program.parents[self.program.spaces[space].parent]
                path, reason = error.filename or directory, error.strerror
                raise DiagnosticError(
                    errors.ParentUnreadable(span_of(parent.where), path=path, name=parent.name, reason=reason)
                ) from error
        return str(known[directory])

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return `make()`, cached by `key` for the present program. The key must hold everything else the result depends on."""
        known: dict[Hashable, T]
        program, known = self.__dict__.get("_once", (None, {}))
        if program is not self.program:
            self.__dict__["_once"] = self.program, (known := {})
        if key not in known:
            known[key] = make()
        return known[key]

    def made(self, stage: str, name: str, what: str) -> str:
        """Return the digest of a finished task's outputs, called `what` in messages. Raises DiagnosticError if not finished."""
        stamp = self.stamps.read(stage, name)
        if stamp is None:
            raise DiagnosticError(errors.NotMadeYet(None, what=what, name=name, stage=stage, file=self.typed))
        return digest_of(stamp.outputs)

    def load(self, path: Path, kind: type[T], stage: str, name: str) -> T:
        """Read an output file of a finished task as a `kind`. Raises DiagnosticError if it is missing, modified or unreadable."""
        how = f"changed or damaged after `pzl {stage}` made it"
        if self.stamps.vouches(stage, name, path):
            try:
                return kind.from_json(path.read_bytes())
            except ValueError:  # pydantic's and JSON's errors
                how = "made by another version of puzzledsl, and cannot be read"
        raise DiagnosticError(errors.DamagedArtefact(None, path=path, how=how, stage=stage, file=self.typed))
