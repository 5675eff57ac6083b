"""Sub-blocks that a runtime lacks are rewritten exactly, in every dtype, and no others."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from puzzledsl.alternatives.support import Architecture, Lowered
from puzzledsl.alternatives.weights import USUAL
from puzzledsl.child.checkpoint.contents import ChildFiles, from_directory, load_child
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.export.lowering import choose, lower, multiple_of, pad_widths
from puzzledsl.ir.engines import DECI, DECILM, NEMOTRON_NAS, OPENELM, RUNTIMES, STEP35
from puzzledsl.ir.runtimes import extra_params
from tests.cases import more
from tests.export.variants import (
    LA,
    LF,
    MIXTURE,
    NA,
    NF,
    OTHER_MIXTURE,
    TOLERANCE,
    A,
    F,
    M,
    Made,
    Variant,
    alternatives_in_each_place,
    make,
)

EACH = alternatives_in_each_place() | {"mixture": Variant(MIXTURE), "other": Variant(OTHER_MIXTURE)}


ENDS = [name for name in EACH if name.endswith(("_first", "_last")) and name != "noop_attention_first"]
FEW = [name for name in EACH if name not in ENDS]


@pytest.fixture(scope="module", params=[*FEW, *more(*ENDS)])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(EACH[request.param], tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_a_lowered_child_computes_the_same(made: Made, runtime: str, tmp_path: Path) -> None:
    """In transformers, which has everything, so that only the rewriting can differ."""
    child = from_directory(made.child)
    engine = choose(child, RUNTIMES[runtime])
    lowered = lower(child, engine)
    write_checkpoint(lowered, made.child, tmp_path / "out")
    logits = load_child(tmp_path / "out", dtype=torch.float64)(torch.tensor([made.prompt])).logits[0]
    assert np.abs(logits.numpy() - made.logits).max() <= TOLERANCE
    for index, layer in enumerate(lowered.layers):
        for alternative in layer:
            assert alternative.support(engine, lowered.shape.at(index), first=index == 0).kind == "native"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lowering_is_exact_in_narrow_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    """The constants that stand for one and nothing are numbers of every dtype: no bit of the output changes."""
    made = make(Variant(((A, F), (A, LF), (LA, M), (NA, F))), tmp_path)
    child = from_directory(made.child).cast(dtype)
    outputs = []
    for name, engine in (("transformers", DECILM), ("vllm", NEMOTRON_NAS)):
        write_checkpoint(lower(child, engine), made.child, tmp_path / name)
        model = load_child(tmp_path / name, dtype=torch.float64)
        outputs.append(model(torch.tensor([made.prompt])).logits)
    assert torch.allclose(outputs[0], outputs[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("layers", "engine", "family"),
    [
        (((A, F), (A, NF)), DECI, "llama"),
        (((NA, F), (A, F)), DECI, "llama"),
        (((NA, F), (A, F)), NEMOTRON_NAS, "llama"),
        (((A, F), (NA, NF)), OPENELM, "qwen3"),
        (((A, F), (NA, F), (A, NF)), OPENELM, "qwen3"),
        (((A, F), (NA, M), (A, NF), (A, M)), STEP35, "qwen3"),
        (((A, F), (A, LF)), NEMOTRON_NAS, "llama"),
        (((A, F), (LA, F)), NEMOTRON_NAS, "llama"),
    ],
)
def test_what_it_costs_is_what_is_said(layers, engine: Architecture, family: str, tmp_path: Path) -> None:
    """`extra_params`, which diagnostics show, counts the weights that a lowered child has more, but for biases of zeros that
    a linear sub-block brings to the other FFNs: a part in hidden."""
    child = from_directory(make(Variant(layers, family, {"tied": True}), tmp_path).child)
    kept = [pair for pair in layers if pair != (NA, NF) or not engine.drops_empty_layers]
    each = ((part, i == 0) for i, pair in enumerate(kept) for part in pair)
    asked = [(part, part.support(engine, child.shape, first=first)) for part, first in each]
    asked += [(None, answer) for _, answer in engine.of_model(child.shape, USUAL)]
    said = sum(extra_params(engine, a, child.shape, part) for part, a in asked if isinstance(a, Lowered))
    if any(LA in pair or LF in pair for pair in layers):
        biases = 2 * child.shape.intermediate + child.shape.hidden
        said += sum(biases for pair in layers if pair[1] == F)
    assert params_of(lower(child, engine)) - params_of(child) == said


def params_of(child: ChildFiles) -> int:
    return sum(math.prod(weight.shape) for weight in child.weights.values())


def test_padding_changes_widths_and_nothing_else(tmp_path: Path) -> None:
    made = make(Variant(((A, M), (A, F), (NA, NF), (LA, LF))), tmp_path)
    padded = pad_widths(from_directory(made.child), multiple_of(32))
    write_checkpoint(padded, made.child, tmp_path / "out")
    assert [ffn.name for _, ffn in padded.layers] == ["mlp32", "mlp64", "noop", "linear"]
    logits = load_child(tmp_path / "out", dtype=torch.float64)(torch.tensor([made.prompt])).logits[0]
    assert np.abs(logits.numpy() - made.logits).max() <= TOLERANCE
