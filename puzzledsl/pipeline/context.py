"""State shared by all tasks of a run: the checked program, its directories and the progress reporter."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.cluster.tasks import Cluster, Executor
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Artefact, span_of
from puzzledsl.pipeline import errors
from puzzledsl.pipeline.stamps import Stamps, digest_of, parent_fingerprint

T = TypeVar("T", bound=Artefact)
Key = tuple[str, str]
"""Stage and name of a task."""


@dataclass
class Context:
    """One run. `file` is the `.pzl` file; relative paths of the program are relative to its directory, `base`."""

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
        """The `.pzl` file as a shell takes it, in a command that is suggested."""
        return shlex.quote(str(self.file))

    @property
    def cluster(self) -> Cluster | None:
        """The cluster `on`; connected when a stage first needs it, within a `session`."""
        known: dict[str, Cluster] = self.__dict__.setdefault("_clusters", {})
        return None if self.on is None else known.setdefault(self.on, Cluster(self.on))

    @property
    def executor(self) -> Executor:
        """The workers of the cluster, or else this process."""
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
        """Return the directory of a space's parent checkpoint, downloading a Hub id. Raises DiagnosticError."""
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
            raise DiagnosticError(
                errors.ParentNotFound(span, name=parent.name, id=source.id, help=help)
            ) from error

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
        """Return the digest of a finished task's outputs. Raises DiagnosticError if the task is not finished."""
        stamp = self.stamps.read(stage, name)
        if stamp is None:
            raise DiagnosticError(errors.NotMadeYet(None, what=what, name=name, stage=stage, file=self.typed))
        return digest_of(stamp.outputs)

    def load(self, path: Path, kind: type[T], stage: str, name: str) -> T:
        """Read the output file of a finished task. Raises DiagnosticError if it is missing or modified."""
        how = f"changed or damaged after `pzl {stage}` made it"
        if self.stamps.vouches(stage, name, path):
            try:
                return kind.from_json(path.read_bytes())
            except ValueError:  # pydantic's and JSON's errors
                how = "made by another version of puzzledsl, and cannot be read"
        raise DiagnosticError(errors.DamagedArtefact(None, path=path, how=how, stage=stage, file=self.typed))
