"""Clock of whole children beside their parent in an engine, as `measure.place.Clock` is for PyTorch.

A child to time is the parent with alternatives of random weights, written for the engine. Times depend on no weight's value.
"""

import math
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.alternatives.precision import CACHES, FULL, PRECISIONS, ServedCaches, is_quantised
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import scratch
from puzzledsl.base.frozen import Record
from puzzledsl.base.process import cpu_name, usable_cores
from puzzledsl.child.checkpoint.contents import from_definition
from puzzledsl.export.engines.ask import Session, SessionFailed, python_of
from puzzledsl.export.gguf_tokenizer import packed
from puzzledsl.export.verify import caches_beside, prepare
from puzzledsl.ir.base import span_of
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.measured_engines import ENGINES, Engine
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Program, Shape, Space
from puzzledsl.ir.runtimes import of_one_cache
from puzzledsl.ir.tables import PARENT_ENDS, EndsAssignment, EngineName, LayerDefinition, ModelDefinition
from puzzledsl.measure import host
from puzzledsl.measure.errors import EngineAbsent, EngineFailed
from puzzledsl.measure.estimate import CHECK_ROUNDS, Check
from puzzledsl.measure.place import Place, batches_of
from puzzledsl.measure.whole import Samples, Widths, Workload, ends_bytes, needs_prefill, prefills, sizes_of
from puzzledsl.measure.whole_fit import mixture, models_needed
from puzzledsl.models.families.load import load_config
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.precision.gptq import nearest

Layers = Sequence[tuple[Alternative, Alternative]]
CHUNK = 1 << 16
"""Number of random values that are drawn; larger weights repeat them."""
SCALE = 0.02


def write_blank(
    parent_dir: Path,
    shape: Shape,
    layers: Layers,
    ends: str,
    engine: EngineName,
    folder: Path,
    dtype: str,
    *,
    words: bool,
) -> Path:
    """Write a child with random weights in its pieces for an engine; return the path that it loads. Raises DiagnosticError.

    `ends`: name of its choice of both ends. `words`: with its tokenizer, which a server needs.
    """
    made: dict[str, tuple[Alternative, Shape]] = {}
    found: list[LayerDefinition] = []
    for index, layer in enumerate(layers):
        pieces: dict[str, Any] = {}
        for sub_block, alternative in zip(SUB_BLOCKS, layer, strict=True):
            pieces[sub_block] = alternative
            if not alternative.keeps_weights and not alternative.removes:
                pieces[f"{sub_block}_piece"] = name = f"{index}.{sub_block}"
                made[name] = alternative, shape.at(index)
        found.append(LayerDefinition(**pieces))
    definition = ModelDefinition(
        name="timed", search="timed", parent="timed", layers=tuple(found), ends=EndsAssignment.of(ends)
    )

    def piece(name: str) -> Mapping[str, Tensor]:
        alternative, own = made[name]
        stored = alternative.stored(own).items()
        return {weight: _values(weight, tuple(size), alternative.dtype) for weight, size in stored}

    child = from_definition(definition, parent_dir, piece)
    return prepare(child, parent_dir, engine, folder, dtype, encode=encoder(), words=words)


def write_model(directory: Path, engine: EngineName, folder: Path, dtype: str) -> Path:
    """Write a parent's or a child's directory for an engine, without its real weights where the engine's file can do without."""
    from puzzledsl.export.verify import open_model

    return prepare(open_model(directory), directory, engine, folder, dtype, encode=encoder())


def encoder() -> Callable[[LazyTensor, Any], NDArray[Any]]:
    """Return an encoder of a GGUF file's tensors that reads no weight: every type's bytes repeat one encoded chunk."""
    import gguf

    @cache
    def chunk(kind: Any) -> NDArray[Any]:
        block, _ = gguf.GGML_QUANT_SIZES[kind]
        values = _drawn()[: CHUNK // block * block].reshape(-1, block)
        if (precision := PRECISIONS.get(kind.name.lower())) is not None:
            return packed(nearest(values, precision), precision).reshape(-1)
        return np.ascontiguousarray(gguf.quants.quantize(values.numpy(), kind)).view(np.uint8).reshape(-1)

    def encode(weight: LazyTensor, kind: Any) -> NDArray[Any]:
        if len(weight.shape) < 2:
            return np.ones(weight.shape, dtype=np.float32)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = weight.shape[-1] // block * block_bytes
        found: NDArray[Any] = np.resize(chunk(kind), (*weight.shape[:-1], row_bytes))
        return found

    return encode


def _values(name: str, size: tuple[int, ...], dtype: str | None) -> Tensor:
    """Return random numbers, on the grid of the storage type `dtype` if that is given; vectors are ones."""
    if len(size) < 2:
        return torch.ones(size)
    count = math.prod(size)
    values = _drawn().repeat(-(-count // CHUNK))[:count].reshape(size)
    return nearest(values, PRECISIONS[dtype]) if dtype is not None and is_quantised(name, size) else values


@cache
def _drawn() -> Tensor:
    return SCALE * torch.randn(CHUNK, generator=torch.Generator().manual_seed(0))


TRIES = 6
"""Most times that a model is loaded until its weights lie in huge pages: in small ones it decodes an eighth slower (SmolLM2)."""
SPARE = 64
"""Tokens of a sequence's cache beyond what is timed."""
TORCH_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class Bed(Record):
    """A hardware's engine on this machine: what models are written for and loaded with."""

    hardware: Hardware
    engine: Engine
    spec: MeasuredHardware

    @classmethod
    def of(cls, hardware: Hardware) -> Self:
        """Return the bed of a hardware. Raises DiagnosticError: EngineAbsent."""
        spec = hardware.spec
        assert isinstance(spec, MeasuredHardware)
        engine = ENGINES[spec.engine]
        if python_of(engine.name) is None:
            said: dict[str, Any] = {"name": hardware.name, "engine": engine.title, "install": engine.install}
            raise DiagnosticError(EngineAbsent(span_of(hardware.where), **said))
        return cls(hardware, engine, spec)

    @property
    def name(self) -> EngineName:
        """The engine's name among exports."""
        return cast(EngineName, self.engine.name)

    @property
    def threads(self) -> int:
        """Threads of the engine: those declared, or every core that this process may use."""
        return self.spec.threads or usable_cores()

    @property
    def stored(self) -> Widths:
        """Bytes of a weight and of a cached number."""
        bits = self.engine.weights[self.spec.dtype]
        cached = Fraction(self.engine.cache_bits or bits) / 8
        return Widths(Fraction(bits) / 8, cached if self.cache is None else CACHES[self.cache].bytes)

    @property
    def cache(self) -> str | None:
        """The type in which the engine stores keys and values unless a model says another; None: its usual one."""
        return None if self.spec.kv_dtype == FULL else self.spec.kv_dtype

    def caches(self, path: Path) -> ServedCaches:
        """Return the KV caches of a model that was written for the engine: its own, else the hardware's."""
        found = caches_beside(path)
        return found if found.cache else ServedCaches(self.engine.name, self.cache)

    def machine(self, version: str) -> str:
        """Describe the machine, with the engine's version and the type of its KV caches."""
        cached = "" if self.cache is None else f", KV cache in {self.cache}"
        return f"{cpu_name()}, {self.threads} threads, {version}{cached}"

    @contextmanager
    def load(self, path: Path, workload: Workload, shape: Shape, what: str) -> Iterator[Session]:
        """Load a model that `prepare` wrote, with room for the KV cache of `shape`; of llama.cpp into huge pages if there are.

        `what`: its name in messages. Raises DiagnosticError: EngineFailed, also for sessions that fail inside the context.
        """
        context = workload.prompt + workload.output + SPARE
        request = {
            "batch": workload.batch,
            "context": context,
            "threads": self.threads,
            "dtype": TORCH_NAMES.get(self.spec.dtype, self.spec.dtype),
            "device": self.spec.device,
            **self.caches(path).request,
        }
        per_token = 2 * sum(own.kv_heads * own.head_dim for own in shape.each) * self.stored.cached
        cache_bytes = round(workload.batch * context * per_token)
        try:
            with ExitStack() as stack:
                for tries in reversed(range(TRIES)):
                    session = stack.enter_context(Session(self.engine.name, path, request, cache_bytes))
                    if tries == 0 or self.engine.name != "llama_cpp" or session.is_in_huge_pages:
                        break
                    stack.close()
                yield session
        except SessionFailed as error:
            said: dict[str, Any] = {"engine": self.engine.title, "what": what, "reason": str(error)}
            raise DiagnosticError(EngineFailed(span_of(self.hardware.where), **said)) from error


def in_turn(
    sessions: Sequence[Session], workload: Workload, turns: int, *, prefill: bool = True
) -> list[Samples]:
    """Return the times of models in turn, after a warm-up of each. Raises SessionFailed.

    A prefill takes as long as many steps, so half as many are timed. Without `prefill` none is: its time is estimated from the
    time in which the sequences are filled.
    """
    found = [Samples() for _ in sessions]
    for turn in range(prefills(turns) + 1 if prefill else 0):
        for session, samples in zip(sessions, found, strict=True):
            seconds = session.prefill(workload.prompt)
            if turn:
                samples.prefill.append(seconds)
    for session, samples in zip(sessions, found, strict=True):
        begun = time.perf_counter()
        session.fill(workload.context)
        if not prefill:
            samples.prefill.append((time.perf_counter() - begun) * workload.prompt / workload.context)
    for turn in range(turns + 1):
        for session, samples in zip(sessions, found, strict=True):
            steps = session.steps(workload.window)
            if turn:
                samples.decode.extend(steps)
    return found


class ServingClock:
    """Times mixtures, and children that a search would choose, beside the parent in the engine of a `measured(...)` hardware."""

    def __init__(self, program: Program, space: str, parent: Path, hardware: str, member: int = 0) -> None:
        """Find the engine. Raises DiagnosticError: EngineAbsent."""
        self._program, self._parent_dir = program, parent
        self._space: Space = program.spaces[space]
        self._shape: Shape = program.parents[self._space.parent].shape
        self._bed = Bed.of(program.hardware[hardware])
        self._scenarios = [s for s in program.scenarios.values() if s.hardware == hardware]
        self._kinds = self._shape.kind_of_each
        self._alternatives = host.alternatives_of(self._space, self._shape)
        one_cache = RUNTIMES[self._bed.name].one_cache
        spaces = of_one_cache(self._space, self._shape) if one_cache else {None: self._space}
        self._groups = [(space, self._labels_of(space, cache)) for cache, space in spaces.items()]
        self._ends = host.ends_of(self._space)
        self._loaded: tuple[Workload, Session] | None = None
        self._stack, self._sessions = ExitStack(), ExitStack()
        self._stack.push(self._sessions)
        weakref.finalize(self, self._stack.close)

    def kind(self) -> str:
        """Describe the machine, the engine and the type of its KV caches."""
        return self._bed.machine(self._bed.engine.name)

    def place(self) -> Place:
        """Load the parent; return the facts. Raises DiagnosticError if that fails (EngineFailed), and as `batches_of` does."""
        bed, stored = self._bed, self._bed.stored
        memory = bed.spec.memory_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        batches = batches_of(self._scenarios, self._shape, stored, memory, bed.spec.device)
        with bed.load(self._parent, Workload(1, 1, 1), self._shape, "the parent") as session:
            version = session.version
        return Place(
            shape=self._shape,
            config=load_config(self._parent_dir).to_json_string(),
            machine=bed.machine(version),
            dtype=bed.spec.dtype,
            stored=stored,
            memory_bytes=memory,
            rounds=sum(models_needed(labels, self._ends) for _, labels in self._groups),
            batches=batches,
            layers_with_weights=self._shape.layers,
            whole=True,
        )

    def round(self, workload: Workload, seed: int) -> Check:
        """Time one mixture. If the engine has one type of KV cache for all layers, seeds take the types in turn."""
        turn, number = divmod(seed, len(self._groups))
        _, labels = self._groups[number]
        return self.timed(mixture(labels, self._kinds, turn, self._ends), workload, seed)

    def check(self, workload: Workload, seed: int, seconds: Mapping[host.Key, float]) -> Check:
        """Time a child that a search would choose by the times `seconds`, in twice as many turns as a mixture."""
        space, _ = self._groups[seed % len(self._groups)]
        child = host.searched_child(space, self._kinds, seconds, self._bytes, seed)
        return self.timed(child, workload, seed, 2 * CHECK_ROUNDS)

    @cached_property
    def _bytes(self) -> dict[host.Key, float]:
        """Bytes of the weights of every alternative, and of each choice of both ends."""
        one, stored, shape = Workload(1, 1, 1), self._bed.stored, self._shape
        own = {kind: shape.at(layers[0]) for kind, (_, layers) in enumerate(shape.kinds())}
        found: dict[host.Key, float] = {
            (part, name): sizes_of(own[host.kind_of(name)], alternative, one, stored)["weights_bytes"]
            for part, labels in self._alternatives.items()
            for name, alternative in labels.items()
        }
        ends = {} if self._space.ends is None else self._space.ends.by_name()
        return found | {("ends", name): ends_bytes(shape, stored, *both) for name, both in ends.items()}

    def _labels_of(self, space: Space, cache: str | None) -> dict[SubBlock, tuple[str, ...]]:
        """Return a space's labels by sub-block; with a typed `cache`, without the parent's own attention: its cache has none."""
        found = host.alternatives_of(space, self._shape)
        kinds = enumerate(self._shape.kinds()) if cache is not None else ()
        left = {host.label(host.PARENT, kind) for kind, (shape, _) in kinds if shape.cached_heads}
        return {part: tuple(n for n in of if part == "ffn" or n not in left) for part, of in found.items()}

    def timed(
        self, child: host.Arrangement, workload: Workload, seed: int, turns: int = CHECK_ROUNDS
    ) -> Check:
        """Time one child in turn with the parent. Raises DiagnosticError: EngineFailed."""
        path = self._written(child, "child")
        prefill = needs_prefill(self._scenarios, workload)
        if self._loaded is None or self._loaded[0] != workload:
            self._loaded = None
            self._sessions.close()
            load = self._bed.load(self._parent, workload, self._shape, "the parent")
            self._loaded = workload, self._sessions.enter_context(load)
        parent = self._loaded[1]
        try:
            with self._bed.load(path, workload, self._shape, "a child") as own:
                of_parent, of_child = in_turn([parent, own], workload, turns, prefill=prefill)
        finally:
            shutil.rmtree(path.parent, ignore_errors=True)
        return Check.of(seed, child, of_parent, of_child, "".join(child.get("ends", ())))

    def close(self) -> None:
        """End the parent's process, and remove the files."""
        self._stack.close()

    @cached_property
    def _folder(self) -> Path:
        return self._stack.enter_context(scratch("serving"))

    @cached_property
    def _parent(self) -> Path:
        own: host.Arrangement = {
            part: tuple(host.label(host.PARENT, kind) for kind in self._kinds) for part in SUB_BLOCKS
        }
        return self._written(own, "parent")

    def _written(self, arrangement: host.Arrangement, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        layers: list[tuple[Alternative, Alternative]] = [
            (self._alternatives["attention"][attention], self._alternatives["ffn"][ffn])
            for attention, ffn in zip(arrangement["attention"], arrangement["ffn"], strict=True)
        ]
        bed, ends = self._bed, arrangement.get("ends", (PARENT_ENDS.name,))[0]
        target = (layers, ends, bed.name, folder, bed.spec.dtype)
        return write_blank(self._parent_dir, self._shape, *target, words=False)
