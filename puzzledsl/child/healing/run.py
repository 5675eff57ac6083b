"""Healed weights of a child's definition: the part of `pzl realise` that runs models.

Callers guarantee that the definition's pieces are in the library and that `jobs` contains the jobs that made them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from puzzledsl.base.files import write_text
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.child.assemble import Pieces
from puzzledsl.child.healing.streams import HELD_BYTES
from puzzledsl.child.healing.text import healing_text
from puzzledsl.child.healing.walk import heal, healed_layer
from puzzledsl.cluster.tasks import Executor, LocalExecutor, Task, TeamSpec
from puzzledsl.ir.nodes import Bld, Program
from puzzledsl.ir.tables import BldJob, ModelDefinition
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.models.families.tensors import LazyTensor, open_file
from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import reachable_parent

STREAMS_AT_A_TIME = 16
"""Upper bound n on the number of streams alive at once. A stream above 1 / n of the free memory is kept in a file."""


OUTCOME = "healed.json"
"""The file of `HealingInputs.work` that says what healing a whole child gave."""


@dataclass(frozen=True)
class HealingInputs:
    """Inputs of healing one child: its definition, the jobs and weights of its pieces, and the parent.

    Relative data paths start at `base`; `cache` holds tokenised text. Layers that an interrupted run of the same child left
    in `work` are reused, and all that a finished one left. `executor` provides the worker that heals.
    """

    program: Program
    definition: ModelDefinition
    jobs: Iterable[BldJob]
    parent_dir: Path
    base: Path
    pieces: Pieces
    cache: Path
    work: Path
    progress: Progress
    executor: Executor = field(default_factory=LocalExecutor)


@dataclass(frozen=True)
class Outcome:
    """Result of healing a child, whose healed weights are in files of the layers in `HealingInputs.work`."""

    layers: tuple[int, ...]
    kl_before: float
    kl_after: float
    calibration_tokens: int
    held_out_tokens: int

    @property
    def improved(self) -> bool:
        """True if healing lowers the KL divergence on held-out tokens."""
        return self.kl_after < self.kl_before


def healed_weights(inputs: HealingInputs) -> dict[str, LazyTensor]:
    """Heal a child and return the weights that replace the assembled ones, by transformers' names.

    Empty if there is nothing to heal, no text to heal on, or healing does not lower the KL divergence on held-out tokens. The
    result reads files in `work`; the caller removes it afterwards. Raises DiagnosticError.
    """
    program, definition = inputs.program, inputs.definition
    declaration = _bld_of(program, definition, inputs.jobs)
    if declaration is None or _is_the_parent(definition):
        return {}
    outcome = _known(inputs.work) or _healed(inputs, declaration)
    if outcome is None:
        return {}
    weights: dict[str, LazyTensor] = {}
    for layer_idx in outcome.layers if outcome.improved else ():
        weights |= open_file(healed_layer(inputs.work, layer_idx))
    return weights


def _known(work: Path) -> Outcome | None:
    """Return what a finished run of the same child left."""
    if not (file := work / OUTCOME).exists():
        return None
    known = json.loads(file.read_text("utf-8"))
    return Outcome(**{**known, "layers": tuple(known["layers"])})


def _healed(inputs: HealingInputs, declaration: Bld) -> Outcome | None:
    """Heal the child, and keep the outcome beside its layers; None if there is no text to heal on."""
    search = inputs.definition.search
    outcome: Outcome | None
    with inputs.executor.open(TeamSpec(Healer.maker(inputs, declaration)), inputs.progress) as teams:
        ((_, outcome),) = teams.run([Task.call(search, "heal")])
    if outcome is not None:
        write_text(inputs.work / OUTCOME, json.dumps(asdict(outcome)))
        inputs.progress.log(
            "healed",
            search=search,
            kept="healed" if outcome.improved else "assembled",
            kl_assembled=outcome.kl_before,
            kl_healed=outcome.kl_after,
            calibration_tokens=outcome.calibration_tokens,
            held_out_tokens=outcome.held_out_tokens,
            data=declaration.heal_data or declaration.data,
        )
    return outcome


class Healer:
    """Heals one child, here or on a worker. Finished layers are in `work`, so another worker can go on from them."""

    def __init__(self, inputs: HealingInputs, declaration: Bld) -> None:
        self._inputs, self._bld = inputs, declaration

    @classmethod
    def maker(cls, inputs: HealingInputs, declaration: Bld) -> Callable[[int], Healer]:
        """Return the maker of a worker's healer."""
        if not inputs.executor.is_local:
            inputs = replace(
                inputs,
                jobs=(),
                parent_dir=inputs.parent_dir.resolve(),
                base=inputs.base.resolve(),
                cache=inputs.cache.resolve(),
                work=inputs.work.resolve(),
                progress=Silent(),
                executor=LocalExecutor(),
            )
        return _HealerMaker(inputs, declaration)

    def heal(self) -> Outcome | None:
        """Heal the child; None if there is no text to heal on. Raises DiagnosticError."""
        inputs, definition, progress = self._inputs, self._inputs.definition, self._inputs.progress
        tokenizer = load_tokenizer(inputs.parent_dir)
        text = healing_text(inputs.program, self._bld, inputs.base, tokenizer, inputs.cache, progress)
        if text is None:
            return None
        calibration_NS, held_out_NS = text
        model = reachable_parent(inputs.parent_dir, progress, once=True)
        held_bytes = min(HELD_BYTES, room_bytes() // STREAMS_AT_A_TIME)
        given = (definition.layers, inputs.pieces, calibration_NS, held_out_NS, inputs.work, progress)
        healed = heal(model, *given, held_bytes=held_bytes)
        return Outcome(
            healed.layers, healed.kl_before, healed.kl_after, calibration_NS.numel(), held_out_NS.numel()
        )


@dataclass(frozen=True)
class _HealerMaker:
    inputs: HealingInputs
    declaration: Bld

    def __call__(self, member: int) -> Healer:
        return Healer(self.inputs, self.declaration)


def _bld_of(program: Program, definition: ModelDefinition, jobs: Iterable[BldJob]) -> Bld | None:
    """Return the `bld` declaration of the child's first piece; of any job if the child has no piece; None without jobs."""
    made_by = {job.id: job.bld for job in jobs}
    for layer in definition.layers:
        for piece in (layer.block_piece, layer.attention_piece, layer.ffn_piece):
            if piece is not None:
                return program.blds[made_by[piece]]
    return next((program.blds[name] for name in made_by.values()), None)


def _is_the_parent(definition: ModelDefinition) -> bool:
    return all(layer.attention.is_parent and layer.ffn.is_parent for layer in definition.layers)
