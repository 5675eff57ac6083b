"""Loading and running a parent changes nothing of transformers that the models of others in the same process would see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from puzzledsl.families.registry import FAMILIES
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.kernels.products import whole_rows
from tests.tiny import save_tiny, tiny_tokens

PROBE = """
import logging, os, sys
import transformers, torch
from transformers import masking_utils, modeling_utils
from transformers.models.llama import modeling_llama

ATTENTION, MASKS = modeling_utils.ALL_ATTENTION_FUNCTIONS, masking_utils.ALL_MASK_ATTENTION_FUNCTIONS

def seen():
    found = {f"{r}.{name}": r[name] for r in (ATTENTION, MASKS) for name in r.valid_keys()}
    for module in (masking_utils, modeling_utils, modeling_llama, torch.nn.functional):
        found |= {f"{module.__name__}.{name}": value for name, value in vars(module).items() if callable(value)}
    found |= {f"environment {name}": value for name, value in os.environ.items()}
    found |= {"threads": torch.get_num_threads(), "dtype": torch.get_default_dtype()}
    return found | {"level": logging.getLogger("transformers.integrations.hub_kernels").level}

before, modules = seen(), set(sys.modules)
from pathlib import Path
from puzzledsl.models.families.load import load_parent
from puzzledsl.uptrain.model import hidden_states

inside = []
model = load_parent(Path(sys.argv[1]))
model.model.layers[1].register_forward_hook(lambda *_: inside.append(seen()))
hidden_states(model, torch.arange(40)[None], every_layer=True)
for after in (*inside, seen()):
    print(sorted(name for name in before if after.get(name) is not before[name] and after.get(name) != before[name]))
    print(sorted(name.rpartition(".")[2] for name in after.keys() - before.keys()))
print(sorted(modules - set(sys.modules)))
"""


@pytest.mark.more
def test_the_models_of_others_stay_as_they_were(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, str(save_tiny(tmp_path))], capture_output=True, text=True, check=True
    )
    *rest, gone = ran.stdout.splitlines()
    assert rest == ["[]", "['puzzledsl_sdpa', 'puzzledsl_sdpa']"] * 2, ran.stdout
    assert gone == "[]"


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_rows_give_the_bits_of_a_search_that_finds_none(tmp_path: Path, family: str) -> None:
    model, ids_BT = load_parent(save_tiny(tmp_path, family)), tiny_tokens()
    arguments = whole_rows(model)
    assert bool(arguments) == ("mixer" not in FAMILIES[family].takes)  # mixers keep a state for a cache
    plain = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
    with pytest.MonkeyPatch.context() as patch:
        if arguments:
            patch.setattr("transformers.masking_utils.find_packed_sequence_indices", _no_search)
        found = model.base_model(input_ids=ids_BT, use_cache=False, **arguments)
    assert torch.equal(found.last_hidden_state, plain)


def _no_search(position_ids: torch.Tensor) -> None:
    raise AssertionError("the rows are searched")
