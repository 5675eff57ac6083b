"""A child on disk: the same logits however it is loaded, the same bytes however often it is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import from_directory, load_checkpoint, load_child
from puzzledsl.child.checkpoint.write import realise, write_checkpoint
from puzzledsl.child.definition import WouldOverwrite
from puzzledsl.models.errors import NotAChild
from puzzledsl.models.families.load import load_parent, load_tokenizer
from tests.assembled import assemble
from tests.cases import more
from tests.children import ATTENTIONS, FFNS, MIXED, PARENT, define, random_pieces
from tests.oracle_forward import oracle_logits
from tests.tiny import FAMILIES, MIXTURES, save_tiny, tiny_model, tiny_tokens


class Made:
    """A parent on disk, a child in memory, and the child on disk."""

    def __init__(self, root: Path, choices, family: str = "llama", **sizes) -> None:
        self.parent = save_tiny(root / "parent", family, layers=len(choices), **sizes)
        self.definition, self.choices = define(choices), choices
        self.pieces = random_pieces(load_parent(self.parent), choices)
        self.child = assemble(load_parent(self.parent), self.definition, self.pieces)
        self.out = root / "models" / "child"
        self.write()

    def write(self) -> None:
        realise(self.definition, self.parent, self.pieces, self.out)

    def with_remote_code(self):
        model = AutoModelForCausalLM.from_pretrained(self.out, trust_remote_code=True, dtype=torch.float32)
        return model.eval().requires_grad_(False)


def greedy(model, tokens: torch.Tensor) -> torch.Tensor:
    for _ in range(6):
        tokens = torch.cat([tokens, model(tokens, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    return tokens


def generate(model, tokens: torch.Tensor, **options) -> torch.Tensor:
    mask = torch.ones_like(tokens)
    return model.generate(
        tokens,
        attention_mask=mask,
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=3,
        **options,
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_memory_disk_and_remote_code_agree_to_the_bit(tmp_path: Path, family: str, tied: bool) -> None:
    made, tokens = Made(tmp_path, MIXED, family, tied=tied), tiny_tokens()
    expected = made.child(tokens).logits
    remote = made.with_remote_code()
    assert torch.equal(load_child(made.out)(tokens).logits, expected)
    assert torch.equal(remote(tokens).logits, expected)
    short = tokens[:, :7]
    for cache in ("dynamic", "static"):
        assert torch.equal(generate(remote, short, cache_implementation=cache), greedy(made.child, short))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_an_all_parent_child_is_the_parent(tmp_path: Path, family: str, tied: bool) -> None:
    made, tokens = Made(tmp_path, [PARENT] * 2, family, tied=tied), tiny_tokens()
    expected = load_parent(made.parent)(tokens).logits
    assert torch.equal(load_child(made.out)(tokens).logits, expected)
    assert torch.equal(made.with_remote_code()(tokens).logits, expected)


@pytest.mark.parametrize("position", [1, *more(0, 2)], ids=["middle", "first", "last"])
@pytest.mark.parametrize(
    "choice",
    [(a, ParentFfn()) for a in ATTENTIONS] + [(ParentAttention(), f) for f in FFNS],
    ids=lambda c: "-".join(a.name for a in c),
)
def test_each_alternative_anywhere(tmp_path: Path, position: int, choice) -> None:
    """Remote code, our own loader and the float64 oracle, with each alternative in the first, middle and last layer."""
    choices = [PARENT] * 3
    choices[position] = choice
    made, tokens = Made(tmp_path, choices, tied=position == 1), tiny_tokens(1, 9)
    expected = made.child(tokens).logits
    remote = made.with_remote_code()
    assert torch.equal(remote(tokens).logits, expected)
    assert torch.equal(load_child(made.out)(tokens).logits, expected)
    assert torch.equal(generate(remote, tokens), greedy(made.child, tokens))
    oracle = oracle_logits(made.out, tokens[0].tolist())
    np.testing.assert_allclose(expected[0].numpy(), oracle, atol=2e-5 * np.abs(oracle).max())


@pytest.mark.parametrize("family", FAMILIES[1:])
@pytest.mark.parametrize("turn", range(len(ATTENTIONS) + 1))
def test_each_alternative_of_each_family_anywhere(tmp_path: Path, family: str, turn: int) -> None:
    """Over all turns, the first, the middle and the last layer have every alternative."""
    attentions, ffns = (*ATTENTIONS, ParentAttention()), (*FFNS, ParentFfn())
    choices = [(attentions[(turn + i) % len(attentions)], ffns[(turn + i) % len(ffns)]) for i in range(3)]
    made, tokens = Made(tmp_path, choices, family), tiny_tokens(1, 9)
    expected, remote = made.child(tokens).logits, made.with_remote_code()
    assert torch.equal(remote(tokens).logits, expected)
    assert torch.equal(load_child(made.out)(tokens).logits, expected)
    assert torch.equal(generate(remote, tokens), greedy(made.child, tokens))
    oracle = oracle_logits(made.out, tokens[0].tolist())
    np.testing.assert_allclose(expected[0].numpy(), oracle, atol=2e-5 * np.abs(oracle).max())


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("turn", range(3), ids=["first", "middle", "last"])
def test_mixtures_of_other_sizes_anywhere(tmp_path: Path, family: str, turn: int) -> None:
    """The layer of this turn has another mixture, the others have the parent's, a dense FFN, and windows that forget."""
    extra = {"mlp_only_layers": []} if family == "qwen3_moe" else {}
    choices = [(GqaAttention(kv_heads=2, window=5), ParentFfn()), (ParentAttention(), MlpFfn(width=12))]
    choices.insert(
        turn, (ParentAttention(), MoeFfn(experts=4 - turn, top_k=1 + turn % 2, width=16 - 8 * (turn % 2)))
    )
    made, tokens = Made(tmp_path, choices, family, **extra), tiny_tokens(1, 12)
    expected, remote = made.child(tokens).logits, made.with_remote_code()
    assert torch.equal(remote(tokens).logits, expected)
    assert torch.equal(load_child(made.out)(tokens).logits, expected)
    assert torch.equal(generate(remote, tokens), greedy(made.child, tokens))
    oracle = oracle_logits(made.out, tokens[0].tolist())
    np.testing.assert_allclose(expected[0].numpy(), oracle, atol=2e-5 * np.abs(oracle).max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_the_oracle_agrees(tmp_path: Path, family: str, tied: bool) -> None:
    made, tokens = Made(tmp_path, MIXED, family, tied=tied), tiny_tokens(1, 12)
    for directory, model in ((made.parent, load_parent(made.parent)), (made.out, load_child(made.out))):
        oracle = oracle_logits(directory, tokens[0].tolist())
        np.testing.assert_allclose(model(tokens).logits[0].numpy(), oracle, atol=2e-5 * np.abs(oracle).max())


@pytest.mark.parametrize("flags", [{"attention_bias": True, "mlp_bias": True}, {"head_dim": 6}])
def test_the_oracle_agrees_on_biases_and_even_heads(tmp_path: Path, flags) -> None:
    made, tokens = Made(tmp_path, MIXED, **flags), tiny_tokens(1, 12)
    oracle = oracle_logits(made.out, tokens[0].tolist())
    logits = made.with_remote_code()(tokens).logits[0].numpy()
    np.testing.assert_allclose(logits, oracle, atol=2e-5 * np.abs(oracle).max())


def test_only_the_childs_weights_are_stored(tmp_path: Path) -> None:
    made = Made(tmp_path, MIXED, tied=True)
    with safe_open(made.out / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert names == set(made.child.state_dict()) - {"lm_head.weight"}
    assert not any(name.startswith("model.layers.0.self_attn") for name in names)
    assert "model.layers.0.input_layernorm.weight" not in names
    assert "model.layers.1.post_attention_layernorm.weight" not in names
    assert {"model.layers.2.self_attn.linear.weight", "model.layers.3.mlp.linear.weight"} <= names


def test_the_config_speaks_decilm(tmp_path: Path) -> None:
    made = Made(tmp_path, MIXED)
    config = json.loads((made.out / "config.json").read_text())
    assert config["architectures"] == ["DeciLMForCausalLM"]
    assert config["model_type"] == "nemotron-nas"
    blocks = config["block_configs"]
    assert [b["attention"]["no_op"] for b in blocks] == [True, False, False, False]
    assert [b["attention"]["replace_with_linear"] for b in blocks] == [False, False, True, False]
    assert [b["attention"]["n_heads_in_group"] for b in blocks] == [None, 4, None, 2]
    assert [b["attention"]["window_length"] for b in blocks] == [None, None, None, 5]
    assert [b["ffn"]["intermediate_size"] for b in blocks] == [40, None, 20, None]
    assert [b["ffn"]["no_op"] for b in blocks] == [False, True, False, False]
    assert [b["ffn"]["replace_with_linear"] for b in blocks] == [False, False, False, True]
    assert str(tmp_path) not in "".join(p.read_text() for p in made.out.glob("*.json"))


def test_attributes_are_read_as_runtimes_do(tmp_path: Path) -> None:
    config = Made(tmp_path, MIXED).with_remote_code().config
    assert config.block_configs[1].attention.n_heads_in_group == 4
    assert config.block_configs[2].ffn.intermediate_size == 20
    assert not hasattr(config.block_configs[2].ffn, "unheard_of")


def test_a_remote_model_saves_and_loads_again(tmp_path: Path) -> None:
    made, tokens = Made(tmp_path, MIXED, tied=True), tiny_tokens()
    made.with_remote_code().save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True).eval()
    assert torch.equal(again(tokens).logits, made.child(tokens).logits)


def test_children_of_one_family_are_not_mixed_up_in_one_process(tmp_path: Path) -> None:
    """Their layers are of other types, so their code differs; transformers keeps one class for each configuration's code."""
    windows = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    for number, sizes in enumerate(({}, windows, {}, {"use_sliding_window": True, "max_window_layers": 0})):
        made, tokens = Made(tmp_path / str(number), MIXED, "qwen2", **sizes), tiny_tokens()
        assert torch.equal(made.with_remote_code()(tokens).logits, made.child(tokens).logits)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_writing_is_deterministic_and_replaces_an_older_child(tmp_path: Path) -> None:
    made = Made(tmp_path, MIXED, tied=True)
    first = contents(made.out)
    made.write()
    assert contents(made.out) == first
    assert [path.name for path in made.out.parent.iterdir()] == ["child"]


def test_an_exported_child_is_written_as_it_was(tmp_path: Path) -> None:
    made = Made(tmp_path, MIXED)
    write_checkpoint(from_directory(made.out), made.out, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(made.out)


def test_the_tokenizer_and_the_card_come_along(tmp_path: Path) -> None:
    made = Made(tmp_path, MIXED)
    text = "drei Äpfel"
    ids = load_tokenizer(made.parent).encode(text)
    assert load_tokenizer(made.out).encode(text) == ids
    assert AutoTokenizer.from_pretrained(made.out, trust_remote_code=True).encode(text) == ids
    realise(made.definition, made.parent, made.pieces, made.out, "# mine\n")
    assert (made.out / "README.md").read_text() == "# mine\n"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_keep_the_parents_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    parent = save_tiny(tmp_path / "parent", layers=4)
    load_parent(parent, dtype=dtype).save_pretrained(parent)
    realise(define(MIXED), parent, random_pieces(tiny_model(layers=4), MIXED), tmp_path / "child")
    with safe_open(tmp_path / "child" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {dtype}  # noqa: SIM118
    assert load_child(tmp_path / "child").dtype == torch.float32


def test_no_code_of_the_directory_is_needed_or_run(tmp_path: Path) -> None:
    made, tokens = Made(tmp_path, MIXED), tiny_tokens()
    for name in ("configuration_decilm.py", "modeling_decilm.py"):
        (made.out / name).write_text("raise SystemExit('ran')\n")
    assert torch.equal(load_child(made.out)(tokens).logits, made.child(tokens).logits)
    assert load_tokenizer(made.out).encode("a") == load_tokenizer(made.parent).encode("a")


def test_remote_code_is_short_and_knows_nothing_of_us(tmp_path: Path) -> None:
    made = Made(tmp_path, [PARENT], "qwen3")
    for name in ("configuration_decilm.py", "modeling_decilm.py"):
        text = (made.out / name).read_text()
        assert len(text.splitlines()) < 125
        assert "puzzledsl" not in text
        assert "llama" not in text.lower()


def test_load_checkpoint_takes_either(tmp_path: Path) -> None:
    made, tokens = Made(tmp_path, MIXED), tiny_tokens()
    assert torch.equal(load_checkpoint(made.out)(tokens).logits, made.child(tokens).logits)
    assert torch.equal(load_checkpoint(made.parent)(tokens).logits, load_parent(made.parent)(tokens).logits)


def first_problem(run) -> object:
    with pytest.raises(DiagnosticError) as caught:
        run()
    return caught.value.diagnostics[0]


def test_a_foreign_directory_is_not_overwritten(tmp_path: Path) -> None:
    made = Made(tmp_path, [PARENT])
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    for out in (other, made.parent, tmp_path / "parent" / "config.json"):
        found = first_problem(lambda out=out: realise(made.definition, made.parent, made.pieces, out))
        assert isinstance(found, WouldOverwrite)
    assert (other / "thesis.tex").read_text() == "x"


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path, MIXED)
    before = contents(made.out)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("puzzledsl.child.checkpoint.write.remote_code", fail)
    with pytest.raises(OSError, match="disk full"):
        made.write()
    assert contents(made.out) == before
    assert [path.name for path in made.out.parent.iterdir()] == ["child"]


def edited(directory: Path, **changes: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


@pytest.mark.parametrize(
    "changes",
    [
        {"block_configs": None},
        {"block_configs": []},
        {"block_configs": [{}, {}]},
        {"block_configs": [{"attention": {}, "ffn": {}}] * 2},
        {"base_model_type": "nonsense"},
        {"base_model_type": 3},
    ],
)
def test_a_broken_child_is_a_diagnostic(tmp_path: Path, changes: dict[str, object]) -> None:
    made = Made(tmp_path, [(NoOpAttention(), ParentFfn()), (GqaAttention(kv_heads=1), NoOpFfn())])
    assert isinstance(first_problem(lambda: load_child(edited(made.out, **changes))), NotAChild)


def test_a_parent_is_not_a_child(tmp_path: Path) -> None:
    assert isinstance(first_problem(lambda: load_child(save_tiny(tmp_path))), NotAChild)
