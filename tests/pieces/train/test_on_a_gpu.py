"""BLD on a GPU: no step waits for it, sums have a fixed order, and both ways to train give the same bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.pieces.train import run
from tests.pieces.train.bld_programs import make_pieces, make_program
from tests.pretended_gpu import pretended_gpu

ALTERNATIVES = {"attention": (GqaAttention(kv_heads=1),), "ffn": (MlpFfn(width=24),)}
MODEL = {"layers": 2}


def trained(base: Path, name: str, tokens: int) -> tuple[dict[str, str], Counter[str], Counter[str]]:
    """Checksums of the pieces, waits by call site, and sums in any order."""
    program = make_program(base, **ALTERNATIVES, model=MODEL, tokens=tokens)
    with pretended_gpu() as gpu:
        library = make_pieces(program, base, name)
    return {piece.job.id: piece.sha256 for piece in library.pieces()}, gpu.waits, gpu.any_order


def test_steps_do_not_wait(tmp_path: Path) -> None:
    (_, few, in_any_order), (_, many, _) = (trained(tmp_path, str(n), n) for n in (128, 256))
    more = many - few
    assert more and {site.split(":")[0] for site in more} <= {
        "event pieces/train/piece_state.py",  # of the copy of the batch before
        "local_scalar_dense models/layerwise.py",  # transformers looks at the positions of a batch once
    }
    assert not in_any_order


def test_streaming_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept, *_ = trained(tmp_path, "swept", 128)
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: usage)
    streamed, waits, in_any_order = trained(tmp_path, "streamed", 128)
    assert streamed == swept and len(swept) == 4
    assert not in_any_order and not any("activations.py" in site for site in waits)
