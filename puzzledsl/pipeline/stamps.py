"""Stamps: records of finished tasks with the digests of their inputs and outputs. A stamp is written last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from puzzledsl.base.files import sha256_of, write_text
from puzzledsl.base.version import __version__
from puzzledsl.ir.base import Artefact

MADE_BY = f"puzzledsl {__version__}"
"""The program version that a stamp records."""


class Stamp(Artefact):
    """The file `build/stamps/STAGE-NAME.json`.

    `outputs` maps paths relative to the build directory (`../out/config.json` for an export) to SHA-256 digests.
    """

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
        try:
            return Stamp.from_json(self.path(stage, name).read_bytes())
        except (OSError, ValueError):
            return None

    def all(self) -> Iterator[Stamp]:
        """Yield every readable stamp, by stage and name."""
        for path in sorted((self.root / "stamps").glob("*.json")):
            try:
                yield Stamp.from_json(path.read_bytes())
            except (OSError, ValueError):
                continue

    def maker_of(self, path: Path) -> Stamp | None:
        """Return the stamp of the finished task that produced `path`; None if no stamp matches the file."""
        relative = self._relative(path)
        return next((stamp for stamp in self.all() if relative in stamp.outputs), None)

    def damaged(self, stamp: Stamp) -> list[str]:
        """Return the outputs that are missing or modified, as paths relative to the build directory."""
        return [path for path, digest in stamp.outputs.items() if not self._matches(path, digest)]

    def is_fresh(self, stage: str, name: str, inputs: dict[str, str]) -> bool:
        """Return True if the task finished with the same inputs and every output is unchanged, byte for byte."""
        stamp = self.read(stage, name)
        return (
            stamp is not None
            and stamp.inputs == inputs
            and all(self._matches(path, digest) for path, digest in stamp.outputs.items())
        )

    def vouches(self, stage: str, name: str, path: Path) -> bool:
        """Return True if `path` is, byte for byte, an output of the finished task."""
        stamp = self.read(stage, name)
        relative = self._relative(path)
        return (
            stamp is not None
            and relative in stamp.outputs
            and self._matches(relative, stamp.outputs[relative])
        )

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), self.root.resolve())).as_posix()

    def _matches(self, relative: str, digest: str) -> bool:
        path = self.root / relative
        try:
            return path.is_file() and sha256_of(path) == digest
        except OSError:  # a disk that cannot read it back
            return False

    def write(
        self,
        stage: str,
        name: str,
        inputs: dict[str, str],
        outputs: list[Path],
        made_by: str,
    ) -> Stamp:
        """Record a finished task. A directory among `outputs` includes every file below it."""
        files = sorted(
            file
            for path in outputs
            for file in ([path] if path.is_file() else path.rglob("*"))
            if file.is_file()
        )
        digests = {self._relative(file): sha256_of(file) for file in files}
        stamp = Stamp(stage=stage, name=name, made_by=made_by, inputs=inputs, outputs=digests)
        write_text(self.path(stage, name), stamp.canonical_json())
        return stamp
