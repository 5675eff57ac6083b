"""Blocks behind those that pieces, scores and healing read are none of theirs."""

from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.progress import Silent
from puzzledsl.child.healing.walk import blocks_read, healing_text
from puzzledsl.data.counts import Budget
from puzzledsl.ir import nodes
from puzzledsl.pieces.store.library import Library
from puzzledsl.scoring.run import ScoreInputs, scored
from tests.blocks import token_blocks
from tests.pieces.train.bld_programs import WHERE, make_program
from tests.tiny import tiny_tokenizer

CONTEXT, SEED = 16, 3
SIZES: tuple[dict[str, Any], ...] = (
    {"heal_tokens": 200},
    {"heal_tokens": 1200},
    {"heal_tokens": 0},
    {"heal_tokens": 400, "heal_data": "other"},
)


def program_of(base: Path, **bld: Any) -> nodes.Program:
    program = make_program(base, tokens=64, calibration_tokens=128, **bld)
    other = nodes.Data(name="other", source=nodes.TextData(paths=("text.txt",)), where=WHERE)
    return program.model_copy(update={"data": {**program.data, "other": other}})


@pytest.mark.parametrize("bld", SIZES)
@pytest.mark.parametrize("data", ["mix", "other"])
def test_blocks_behind_are_new(tmp_path: Path, bld: dict[str, Any], data: str) -> None:
    program = program_of(tmp_path, **bld)
    declared, cache = program.blds["b"], tmp_path / "tokens"
    tokenizer = tiny_tokenizer()
    read = blocks_read(program, data, CONTEXT, SEED)

    def blocks(count: int) -> list[tuple[int, ...]]:
        source = program.data[data]
        found = token_blocks(
            source, tmp_path, tokenizer, context=CONTEXT, tokens=count * CONTEXT, seed=SEED, cache=cache
        )
        return [tuple(block) for block in found.tolist()]

    used: set[tuple[int, ...]] = set()
    if data == declared.data:
        used |= set(blocks(Budget.of(declared).blocks))
        library = Library(tmp_path / "library")
        inputs = ScoreInputs(program, "s", tmp_path / "parent", tmp_path, library, (), tmp_path, Silent())
        used |= {tuple(block) for block in scored(inputs)[0].tolist() if len(block) == CONTEXT}
    healed = healing_text(program, declared, tmp_path, tokenizer, cache)
    if healed is not None and data == (declared.heal_data or declared.data):
        used |= {tuple(block) for part in healed for block in part.tolist()}
    everything = blocks(read + 4)
    assert used <= set(everything[:read])
    assert not used & set(everything[read:])
    assert (read == 0) == (not used)


def test_another_order_has_no_front(tmp_path: Path) -> None:
    """With another seed or context every block is as new as the next."""
    program = program_of(tmp_path, heal_tokens=200)
    assert blocks_read(program, "mix", CONTEXT, SEED) > 0
    assert blocks_read(program, "mix", CONTEXT, SEED + 1) == blocks_read(program, "mix", 32, SEED) == 0
