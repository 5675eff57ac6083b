"""Quantised pieces: on their grids, frozen, at least as near to the parent as by nearest rounding, on unseen tokens."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PRECISIONS, is_quantised
from puzzledsl.alternatives.registry import FfnAlternative
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import Piece
from puzzledsl.models.precision.gptq import codes_of
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.run import FLATTERED
from tests.interrupting import Recorder
from tests.pieces.train.bld_programs import make_pieces, make_program

SIZES = {"hidden": 64, "head_dim": 16, "intermediate": 96, "scale": 0.15, "layers": 2}
ATTENTION = (ParentAttention(), ParentAttention(dtype="q4_0"), GqaAttention(kv_heads=1, dtype="int4"))
FFN: tuple[FfnAlternative, ...] = (
    ParentFfn(dtype="q4_0"),
    ParentFfn(dtype="q8_0"),
    MlpFfn(width=40),
    MlpFfn(width=40, dtype="q4_0"),
    LinearFfn(dtype="fp8"),
)
SHORT = {"tokens": 512, "context": 32, "batch": 2, "calibration_tokens": 1024}


def made(base: Path, quantise: str = "gptq", **more: object) -> Library:
    given = {"attention": ATTENTION, "ffn": FFN, "model": SIZES, **SHORT, **more}
    program = make_program(base, **given)  # type: ignore[arg-type]
    init = nodes.Initialisers.model_validate({"quantise": quantise})
    space = program.spaces["w"].model_copy(update={"init": init})
    program = program.model_copy(update={"spaces": {"w": space}})
    return make_pieces(program, base, quantise)


def pieces(library: Library) -> dict[tuple[int, str], Piece]:
    return {
        (p.job.layer, "/".join(a.name for a in (p.job.attention, p.job.ffn) if a)): p
        for p in library.pieces()
    }


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Library]:
    base = tmp_path_factory.mktemp("quantised")
    return {method: made(base, method) for method in ("gptq", "nearest")}


@pytest.mark.parametrize("method", ["gptq", "nearest"])
def test_weights_lie_on_their_grids(libraries: dict[str, Library], method: str) -> None:
    for piece in libraries[method].pieces():
        dtypes = [a.dtype for a in (piece.job.attention, piece.job.ffn) if a is not None]
        for name, weight in libraries[method].load(piece.job.id).items():
            if dtypes != [None] and is_quantised(name, tuple(weight.shape)):
                assert codes_of(weight, PRECISIONS[dtypes[0] or ""]) is not None, (piece.job.ffn, name)
        if dtypes != [None]:
            assert piece.tokens == 0 and piece.loss_final == piece.loss_initial


def test_compensated_pieces_are_nearer_than_rounded_ones_in_every_layer(
    libraries: dict[str, Library],
) -> None:
    """On held-out tokens, at 4 bits; 8 bits are near either way."""
    found, plain = (pieces(libraries[method]) for method in ("gptq", "nearest"))
    for (layer, name), piece in found.items():
        if "@q4_0" in name or "@int4" in name:
            assert piece.loss_final < plain[layer, name].loss_final, (layer, name)
        if name == "parent@q8_0":
            assert piece.loss_final < 2e-4


def test_experts_are_quantised_too(tmp_path: Path) -> None:
    ffn = (MoeFfn(experts=4, top_k=2, width=32, dtype="q8_0"), ParentFfn(dtype="int8"))
    sizes = {**SIZES, "moe_intermediate_size": 32, "mlp_only_layers": []}
    library = made(
        tmp_path, family="qwen3_moe", model=sizes, attention=(ParentAttention(),), ffn=ffn, tokens=0
    )
    assert len(library.pieces()) == 4
    for piece in library.pieces():
        assert piece.job.ffn is not None and piece.job.ffn.dtype is not None
        weights = library.load(piece.job.id)
        grid = PRECISIONS[piece.job.ffn.dtype]
        assert all(codes_of(w, grid) is not None for n, w in weights.items() if n != "gate.weight")
        assert codes_of(weights["gate.weight"], grid) is None


@pytest.mark.parametrize(("bits", "told"), [(4, True), (8, False)])
def test_a_parent_that_comes_from_a_four_bit_file_is_told(tmp_path: Path, bits: int, told: bool) -> None:
    given = {"attention": ATTENTION[:1], "ffn": (ParentFfn(dtype="q4_0"),), "model": SIZES, **SHORT}
    program = make_program(tmp_path, **given)  # type: ignore[arg-type]
    path = tmp_path / "parent" / "model.safetensors"
    weights = load_file(path)
    for name, weight in weights.items():
        if ".layers." in name and weight.ndim == 2:
            groups = weight.view(-1, 32)
            low = groups.amin(-1, keepdim=True)  # as q4_1: a minimum and a step for each group
            step = (groups.amax(-1, keepdim=True) - low) / (2**bits - 1)
            weights[name] = (low + step * ((groups - low) / step).round()).view(weight.shape)
    save_file(weights, path, metadata={"format": "pt"})
    log = Recorder()
    make_pieces(program, tmp_path, progress=log)
    warned = [fields["text"] for fields in log.named("warning")]
    assert warned == ([FLATTERED] if told else [])
