"""The block library on disk: `<job id>.safetensors` for each finished piece, and `index.jsonl`.

A piece exists once its index line does, and the line is written after the file: killed at any moment, a library
holds only complete pieces. Only safetensors are written and read, never pickles.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import replacing, sha256_of
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, as_sent
from puzzledsl.data.streams import TokenRows, token_rows
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.models.errors import PieceDamaged, PieceMissing
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.pieces.store.index import Index

CHUNK_BYTES = 1 << 16
CHUNKS = 256


def origin(parent_dir: Path, tokens: Tensor) -> dict[str, str]:
    """Return `{"parent": …, "text": …}`: digests of a checkpoint directory's config and weights, and of token ids.

    Of each file, the size and about 256 evenly spaced chunks are read, which of a small file are all of it: this detects any
    retrained or converted checkpoint, and a 140 GB checkpoint takes well under a second.
    """
    weights = hashlib.sha256()
    for path in sorted((*parent_dir.glob("*.safetensors"), parent_dir / "config.json")):
        size = path.stat().st_size
        weights.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for offset in range(0, size, max(CHUNK_BYTES, size // CHUNKS)):
                file.seek(offset)
                weights.update(file.read(CHUNK_BYTES))
    text = hashlib.sha256(f"{tuple(tokens.shape)}\n".encode() + tokens.numpy().tobytes())
    return {"parent": weights.hexdigest(), "text": text.hexdigest()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a safetensors file. Return its SHA-256 in hex. Equal inputs give equal bytes if `metadata` has at most one entry."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, path, dict(metadata))
    return sha256_of(path)


_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


class Library:
    """The pieces under `root` (which need not exist yet)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = Index(root / "index.jsonl")
        self._known: dict[str, Piece] = {}

    def pieces(self) -> tuple[Piece, ...]:
        """Every piece in the index, in order of job id. Raises DiagnosticError for a damaged index."""
        self._known = self.index.read()
        return tuple(piece for _, piece in sorted(self._known.items()))

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of each piece's file, by job id. Raises DiagnosticError for a damaged index."""
        return {piece.job.id: piece.sha256 for piece in self.pieces()}

    def has(self, id: str, inputs: Mapping[str, str] | None = None) -> bool:
        """Return True if job `id` has an indexed piece with an intact file, made from these `inputs` (unless None)."""
        piece = self._find(id)
        if piece is None or (inputs is not None and piece.inputs != dict(inputs)):
            return False
        return not self._content(piece)[1]

    def write(
        self,
        job: BldJob,
        tensors: Mapping[str, Tensor],
        loss_initial: float,
        loss_final: float,
        tokens: int,
        inputs: Mapping[str, str] | None = None,
    ) -> Piece:
        """Write the file of a finished piece, without its index line: several machines may write pieces, and one enters them.

        `tokens`: number of tokens that the piece was trained on. `inputs`: digests of what it was made from besides the job.
        The same job and tensors give the same bytes.
        """
        if not _SAFE_NAME.fullmatch(job.id):
            raise ValueError(f"a job id is a file name here, and {job.id!r} is none")
        file = f"{job.id}.safetensors"
        with replacing(self.root / file) as temporary:
            sha256 = write_tensors(temporary, tensors, {"job": job.canonical_json()})
        return Piece(
            job=job,
            file=file,
            sha256=sha256,
            loss_initial=loss_initial,
            loss_final=loss_final,
            tokens=tokens,
            inputs=dict(inputs or {}),
        )

    def enter(self, piece: Piece) -> None:
        """Add the index line of a piece whose file is on the disk. It replaces an older one of the job."""
        if self._find(piece.job.id) != piece:
            self.index.append(piece)
            self._known[piece.job.id] = piece

    def load(self, id: str) -> dict[str, Tensor]:
        """A piece's tensors on the CPU. Raises DiagnosticError when it is missing or its hash is wrong."""
        piece = self._find(id)
        if piece is None:
            raise DiagnosticError(PieceMissing(None, root=self.root, id=id))
        content, fault = self._content(piece)
        if not fault:
            try:
                return parse_safetensors(content)
            except SafetensorError as error:
                fault = f"it is no safetensors file ({error})"
        raise DiagnosticError(PieceDamaged(None, file=self.root / piece.file, reason=fault))

    def finish(self) -> None:
        """Make the index canonical, so that equal pieces are equal bytes however often the work was interrupted."""
        if self.root.is_dir():
            self.index.rewrite()

    def _find(self, id: str) -> Piece | None:
        if id not in self._known:
            self._known = self.index.read()
        return self._known.get(id)

    def _content(self, piece: Piece) -> tuple[bytes, str]:
        """Return the content of a piece's file, and what is wrong with it; an empty text if nothing is."""
        try:
            content = (self.root / piece.file).read_bytes()
        except OSError:
            return b"", "the file is gone or cannot be read"
        whole = hashlib.sha256(content).hexdigest() == piece.sha256
        return content, "" if whole else "its SHA-256 is not the one in the index"


@dataclass(frozen=True)
class StageInputs:
    """Inputs of a stage that makes pieces or runs them: `name` is that of its declaration.

    `jobs` are those whose pieces `library` has or is to get. Relative data paths start at `base`. `work` holds the state that an
    interrupted run resumes from; it may be removed at the end. `executor` provides the workers.
    """

    program: Program
    name: str
    parent_dir: Path
    base: Path
    library: Library
    jobs: Sequence[BldJob]
    work: Path
    progress: Progress
    executor: Executor = field(default_factory=Executor)

    @property
    def build(self) -> BuildDir:
        """The build directory, which holds the library."""
        return BuildDir(self.library.root.parent)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The parent's tokenizer."""
        return load_tokenizer(self.parent_dir)

    def text(self, data: str, context: int, blocks: int, seed: int) -> TokenRows:
        """Return the first blocks of a text, each of `context` tokens, in `seed`'s order. Raises DiagnosticError if too few."""
        return token_rows(
            *(self.program.data[data], self.base, self.tokenizer),
            context=context,
            tokens=blocks * context,
            seed=seed,
            cache=self.build.tokens,
            progress=self.progress,
        )

    def sent(self, **changes: object) -> Self:
        """Return the inputs as workers get them, with `changes` to fields; without workers, return them unchanged."""
        if self.executor.is_local:
            return self
        return as_sent(self, library=Library(self.library.root.resolve()), **changes)
