"""What a runtime lacks is rewritten into what it has: exactly, in every dtype, and no more than that."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from puzzledsl.alternatives.support import Lowered
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.child.load import load_child
from puzzledsl.export.lowering import lower, pad_widths
from puzzledsl.ir.runtimes import RUNTIMES, extra_params
from puzzledsl.ir.tables import EngineName
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


@pytest.fixture(scope="module", params=list(EACH))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(EACH[request.param], tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_a_lowered_child_computes_the_same(made: Made, runtime: str, tmp_path: Path) -> None:
    """In transformers, which has everything, so that only the rewriting can differ."""
    lowered = lower(from_directory(made.child), RUNTIMES[runtime])
    write_checkpoint(lowered, made.child, tmp_path / "out")
    logits = load_child(tmp_path / "out", dtype=torch.float64)(torch.tensor([made.prompt])).logits[0]
    assert np.abs(logits.numpy() - made.logits).max() <= TOLERANCE
    for index, layer in enumerate(lowered.layers):
        for alternative in layer:
            assert alternative.support(RUNTIMES[runtime].name, first=index == 0).kind == "native"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lowering_is_exact_in_narrow_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    """The constants that stand for one and nothing are numbers of every dtype: no bit of the output changes."""
    made = make(Variant(((A, F), (A, LF), (LA, M), (NA, F))), tmp_path)
    child = from_directory(made.child).cast(dtype)
    outputs = []
    for name in ("transformers", "vllm"):
        write_checkpoint(lower(child, RUNTIMES[name]), made.child, tmp_path / name)
        model = load_child(tmp_path / name, dtype=torch.float64)
        outputs.append(model(torch.tensor([made.prompt])).logits)
    assert torch.allclose(outputs[0], outputs[1], rtol=0, atol=1e-12)


def test_what_it_costs_is_what_is_said(tmp_path: Path) -> None:
    """`extra_params`, which diagnostics show, counts the weights that a lowered child has more."""
    for index, (layer, runtime) in enumerate(
        [
            (((A, F), (A, NF)), "llama_cpp"),
            (((NA, F), (A, F)), "llama_cpp"),
            (((NA, F), (A, F)), "vllm"),
        ]
    ):
        made = make(Variant(layer), tmp_path / str(index))
        child = from_directory(made.child)
        answers = [
            part.support(RUNTIMES[runtime].name, first=i == 0)
            for i, pair in enumerate(layer)
            for part in pair
        ]
        said = sum(extra_params(RUNTIMES[runtime], a, child.shape) for a in answers if isinstance(a, Lowered))
        assert lower(child, RUNTIMES[runtime]).params - child.params == said


@pytest.mark.parametrize("layer", [(A, LF), (LA, F)], ids=lambda pair: "-".join(a.name for a in pair))
def test_what_a_linear_one_costs_is_what_is_said(tmp_path: Path, layer) -> None:
    """Biases of zeros in the other FFNs come on top: a part in hidden."""
    made = make(Variant(((A, F), layer)), tmp_path)
    child = from_directory(made.child)
    vllm = RUNTIMES["vllm"]
    answer = next(
        a for a in (part.support(vllm.name, first=False) for part in layer) if isinstance(a, Lowered)
    )
    biases = sum(
        2 * child.shape.intermediate + child.shape.hidden for pair in ((A, F), layer) if pair[1] == F
    )
    assert lower(child, vllm).params - child.params == extra_params(vllm, answer, child.shape) + biases


def test_a_runtime_that_has_everything_changes_nothing(tmp_path: Path) -> None:
    child = from_directory(make(Variant(MIXTURE), tmp_path).child)
    lowered = lower(child, RUNTIMES["transformers"])
    assert lowered.layers == child.layers and list(lowered.weights) == list(child.weights)


def test_padding_changes_widths_and_nothing_else(tmp_path: Path) -> None:
    made = make(Variant(((A, M), (A, F), (NA, NF), (LA, LF))), tmp_path)
    padded = pad_widths(from_directory(made.child), 32)
    write_checkpoint(padded, made.child, tmp_path / "out")
    assert [ffn.name for _, ffn in padded.layers] == ["mlp32", "mlp64", "noop", "linear"]
    logits = load_child(tmp_path / "out", dtype=torch.float64)(torch.tensor([made.prompt])).logits[0]
    assert np.abs(logits.numpy() - made.logits).max() <= TOLERANCE


def test_capabilities_are_said_of_every_engine_with_version_and_source() -> None:
    assert set(get_args(EngineName)) < set(RUNTIMES)
    for runtime in RUNTIMES.values():
        assert runtime.version and runtime.source
        assert set(runtime.families) == {"llama", "mistral", "qwen2", "qwen3"}


def test_an_empty_layer_is_left_out_where_that_is_free(tmp_path: Path) -> None:
    child = from_directory(make(Variant(((A, F), (NA, NF), (A, M))), tmp_path).child)
    assert len(lower(child, RUNTIMES["vllm"]).layers) == 2
    assert len(lower(child, RUNTIMES["mlx"]).layers) == 3
