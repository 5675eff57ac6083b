"""A child on disk: the same logits however it is loaded, the same bytes however often it is written."""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.child.checkpoint import remote
from puzzledsl.child.checkpoint.contents import from_directory, load_checkpoint, load_child
from puzzledsl.child.checkpoint.write import realise, write_checkpoint
from puzzledsl.child.definition import WouldOverwrite
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models import families
from puzzledsl.models.errors import NoSuchLayer, NotAChild, PieceDoesNotFit
from puzzledsl.models.families.access import layers as layers_of
from puzzledsl.models.families.load import load_parent, load_tokenizer
from tests.assembled import assemble
from tests.cases import more
from tests.children import ATTENTIONS, FFNS, MIXED, PARENT, Choice, define, random_pieces
from tests.export.variants import G1, LA, LLAMA3, NA, NF, A, F
from tests.oracle_forward import oracle_logits
from tests.refused import refused
from tests.tiny import FAMILIES, HYBRIDS, MIXTURES, save_tiny, tiny_model, tiny_tokens

LAYERS = {"nemotron_h": 12, "qwen3_next": 4, "qwen3_5_text": 4}
"""Of hybrids: each kind of layer is the first, in the middle, and the last."""


class Made:
    """A parent on disk, a child in memory, and the child on disk."""

    def __init__(
        self,
        root: Path,
        choices: Sequence[Choice],
        family: str = "llama",
        parent: Path | None = None,
        **sizes: Any,
    ) -> None:
        self.parent = parent or save_tiny(root / "parent", family, layers=len(choices), **sizes)
        self.definition, self.pieces = define(choices), random_pieces(load_parent(self.parent), choices)
        self.child = assemble(load_parent(self.parent), self.definition, self.pieces)
        self.out = root / "models" / "child"
        self.write()

    def write(self) -> None:
        realise(self.definition, self.parent, self.pieces, self.out)

    def with_remote_code(self) -> PreTrainedModel:
        model = AutoModelForCausalLM.from_pretrained(self.out, trust_remote_code=True, dtype=torch.float32)
        return model.eval().requires_grad_(False)

    def agrees(
        self, tokens: torch.Tensor, caches: Sequence[str] = ("dynamic",), within: float = 2e-5
    ) -> np.ndarray:
        """Memory, disk and remote code agree to the bit, through caches too; and so does the float64 oracle, which it returns."""
        expected, own, remote = self.child(tokens).logits, load_child(self.out), self.with_remote_code()
        assert torch.equal(own(tokens).logits, expected)
        assert torch.equal(remote(tokens).logits, expected)
        wanted = greedy(self.child, tokens[:, :9])
        for model, cache in ((own, "dynamic"), *((remote, cache) for cache in caches)):
            assert torch.equal(generate(model, tokens[:, :9], cache_implementation=cache), wanted)
        oracle = oracle_logits(self.out, tokens[0].tolist())
        atol = within * np.abs(oracle).max()
        np.testing.assert_allclose(expected[0].numpy(), oracle, rtol=0, atol=atol)
        return oracle


def greedy(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    for _ in range(6):
        tokens = torch.cat([tokens, model(tokens, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    return tokens


def generate(
    model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    mask = torch.ones_like(tokens) if mask is None else mask
    plain = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 3}
    return model.generate(tokens, attention_mask=mask, **plain, **options)


OTHERS: dict[str, dict[str, Any]] = {
    "biases": {"attention_bias": True, "mlp_bias": True},
    "even heads": {"head_dim": 6},
    "linear rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e3, "factor": 2.0}},
    "llama3 rope": {"rope_parameters": LLAMA3},
}


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        *((family, {"tied": tied}) for family in FAMILIES for tied in (False, True)),
        *(pytest.param("llama", sizes, id=name) for name, sizes in OTHERS.items()),
    ],
)
def test_a_mixed_child(tmp_path: Path, family: str, sizes: dict[str, Any]) -> None:
    made, tokens = Made(tmp_path, MIXED, family, **sizes), tiny_tokens(2, 12)
    made.agrees(tokens, caches=("dynamic", "static"))
    oracle, logits = oracle_logits(made.parent, tokens[0].tolist()), load_parent(made.parent)(tokens).logits
    np.testing.assert_allclose(logits[0].numpy(), oracle, atol=2e-5 * np.abs(oracle).max())


STOCK: list[tuple[str, dict[str, Any]]] = [
    *((family, {"tied": tied}) for family in FAMILIES for tied in (False, True)),
    *((family, {"layers": LAYERS[family]}) for family in HYBRIDS),
    ("llama", {"tied": True, "heads": 3, "kv_heads": 1}),
    ("llama", {"rope_parameters": LLAMA3}),
    ("mistral", {"sliding_window": 5}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
]


@pytest.mark.parametrize(("family", "sizes"), STOCK)
def test_an_all_parent_child_is_stock_transformers(
    tmp_path: Path, family: str, sizes: dict[str, Any]
) -> None:
    """To the bit, in every way transformers runs a model: eager or not, with each cache, and a padded batch."""
    sizes = {"layers": 3} | sizes
    made = Made(tmp_path, [PARENT] * sizes.pop("layers"), family, **sizes)
    stock = (
        AutoModelForCausalLM.from_pretrained(made.parent, dtype=torch.float32).eval().requires_grad_(False)
    )
    tokens = tiny_tokens(2, 9)
    mask = torch.ones_like(tokens)
    mask[0, :4], tokens[0, :4] = 0, 3
    for model in (load_parent(made.parent), made.child, load_child(made.out), made.with_remote_code()):
        for implementation in ("sdpa", "eager") if model._supports_sdpa else ("eager",):
            for each in (model, stock):
                each.set_attn_implementation(implementation)
            assert torch.equal(model(tokens).logits, stock(tokens).logits)
        for cache in ("dynamic", "static"):
            found, expected = (
                generate(each, tokens, mask, cache_implementation=cache) for each in (model, stock)
            )
            assert torch.equal(found, expected)


WITHOUT: list[Choice] = [(NA, F), (LA, F)]


@pytest.mark.parametrize("position", [1, *more(0, 2)], ids=["middle", "first", "last"])
@pytest.mark.parametrize(
    "choice", [(a, F) for a in ATTENTIONS] + [(A, f) for f in FFNS], ids=lambda c: "-".join(a.name for a in c)
)
def test_each_alternative_anywhere(tmp_path: Path, position: int, choice: Choice) -> None:
    choices = [PARENT] * 3
    choices[position] = choice
    Made(tmp_path, choices, tied=position == 1).agrees(tiny_tokens(1, 9))


def test_a_child_without_any_attention(tmp_path: Path) -> None:
    Made(tmp_path, WITHOUT).agrees(tiny_tokens(2, 9), caches=("dynamic", "static"))


@pytest.mark.parametrize("family", FAMILIES[1:])
@pytest.mark.parametrize("turn", range(len(ATTENTIONS) + 1))
def test_each_alternative_of_each_family_anywhere(tmp_path: Path, family: str, turn: int) -> None:
    """Over all turns, the first, the middle and the last layer have every alternative."""
    attentions, ffns = (*ATTENTIONS, A), (*FFNS, F)
    choices = [(attentions[(turn + i) % len(attentions)], ffns[(turn + i) % len(ffns)]) for i in range(3)]
    Made(tmp_path, choices, family).agrees(tiny_tokens(1, 9))


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("turn", range(3), ids=["first", "middle", "last"])
def test_mixtures_of_other_sizes_anywhere(tmp_path: Path, family: str, turn: int) -> None:
    """The layer of this turn has another mixture, the others have the parent's, a dense FFN, and windows that forget."""
    extra = {"mlp_only_layers": []} if family == "qwen3_moe" else {}
    choices = [(GqaAttention(kv_heads=2, window=5), F), (A, MlpFfn(width=12))]
    smaller = MoeFfn(experts=4 - turn, top_k=1 + turn % 2, width=16 - 8 * (turn % 2))
    choices.insert(turn, (A, smaller))
    Made(tmp_path, choices, family, **extra).agrees(tiny_tokens(1, 12))


CONTEXT = 8
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.25],
    "long_factor": [1.5, 4.0],
    "partial_rotary_factor": 0.5,
}
PHI: dict[str, Any] = {"hidden": 32, "rope_parameters": LONGROPE, "original_max_position_embeddings": CONTEXT}
"""Phi-4-mini in small: sequences beyond the old context have other frequencies, and half of a head turns."""


@pytest.mark.parametrize("length", [CONTEXT + 1, *more(5, CONTEXT, 14)])
@pytest.mark.parametrize("choices", [[PARENT] * 4, MIXED], ids=["parent", "mixed"])
def test_generation_goes_past_the_old_context(tmp_path: Path, choices: list[Choice], length: int) -> None:
    """The cache is made anew where the frequencies change, as in stock transformers."""
    made, tokens = Made(tmp_path, choices, "phi3", **PHI), tiny_tokens(1, length)
    made.agrees(tokens)
    short = tokens[:, :5]
    expected = greedy(made.child, short)
    assert torch.equal(generate(made.with_remote_code(), short), expected)
    if choices is not MIXED:
        stock = AutoModelForCausalLM.from_pretrained(made.parent, dtype=torch.float32).eval()
        assert torch.equal(generate(stock, short), expected)
    if length > CONTEXT:  # the oracle is not blind to what is asked of it
        logits = made.child(tokens).logits[:, :CONTEXT]
        assert not torch.allclose(logits, made.child(tokens[:, :CONTEXT]).logits, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_the_same_gradients(tmp_path: Path, family: str) -> None:
    made, tokens, gradients = Made(tmp_path, MIXED, family), tiny_tokens(2, 12), []
    for checkpointing in (False, True):
        child = load_child(made.out).requires_grad_(True).train()
        if checkpointing:
            enable = getattr(child, "activation_checkpointing_enable", None)  # the name since 5.2x
            enable() if enable is not None else child.gradient_checkpointing_enable()
        runs: list[int] = []
        layers_of(child)[2].mlp.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        child(tokens, labels=tokens, use_cache=False).loss.backward()
        assert len(runs) == 1 + checkpointing  # what is not kept is computed again
        gradients.append({name: weight.grad for name, weight in child.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None and torch.equal(gradient, gradients[1][name]), name


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_sliding_layers_keep_their_kind_of_cache(tmp_path: Path, family: str) -> None:
    """A parent that mixes full and sliding-window layers: slots are numbered within each kind."""
    sliding = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
    made = Made(tmp_path, [WITHOUT[0], PARENT, (LA, NF), PARENT], family, **sliding)
    child = load_child(made.out)
    kinds = [child.config.layer_types[layers_of(child)[i].self_attn.layer_idx] for i in (1, 3)]
    assert kinds == ["full_attention", "sliding_attention"]
    made.agrees(tiny_tokens(2, 7))


@pytest.mark.parametrize("ffn", [MlpFfn(width=20), F])
def test_a_coupled_piece_brings_both_halves(tmp_path: Path, ffn: MlpFfn | ParentFfn) -> None:
    """A job whose FFN is the parent's stores its attention only."""
    made = Made(tmp_path, [(G1, ffn)])
    block = {f"self_attn.{k}": v for k, v in made.pieces("attention-0").items()}
    if made.definition.layers[0].ffn_piece is not None:
        block |= {f"mlp.{k}": v for k, v in made.pieces("ffn-0").items()}
    layer = LayerDefinition(attention=G1, ffn=ffn, block_piece="b")
    coupled = ModelDefinition(name="c", search="c", parent="p", layers=(layer,))
    before = contents(made.out)
    realise(coupled, made.parent, {"b": block}.__getitem__, made.out)
    assert contents(made.out)["model.safetensors"] == before["model.safetensors"]


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
    read = made.with_remote_code().config.block_configs  # attributes, as runtimes read them
    assert (read[1].attention.n_heads_in_group, read[2].ffn.intermediate_size) == (4, 20)
    assert not hasattr(read[2].ffn, "unheard_of")


def test_the_model_code_is_a_llama_s_before_an_export_names_another_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, [*MIXED, (GqaAttention(kv_heads=1, heads=3), F)])
    beside, tokens = ModuleType("beside"), tiny_tokens(2, 12)
    beside.__path__ = [*remote.__path__, *families.__path__]
    monkeypatch.setitem(sys.modules, "beside", beside)
    code = import_module("beside.modeling_decilm")
    places = (("self_attn", ("input_layernorm",), True), ("mlp", ("post_attention_layernorm",), False))
    monkeypatch.setattr(code, "PARTS", {"full_attention": places})
    config = code.DeciLMConfig(**json.loads((made.out / "config.json").read_text()))
    model = code.DeciLMForCausalLM(config).eval()
    model.load_state_dict(load_file(made.out / "model.safetensors"))
    assert torch.equal(model(tokens).logits, made.child(tokens).logits)


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


def test_writing_is_deterministic_and_replaces_an_older_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, MIXED, tied=True)
    first = contents(made.out)
    made.write()
    assert contents(made.out) == first
    write_checkpoint(from_directory(made.out), made.out, tmp_path / "copy")
    assert contents(tmp_path / "copy") == first

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("puzzledsl.child.checkpoint.write.remote_code", fail)
    with pytest.raises(OSError, match="disk full"):
        made.write()
    assert contents(made.out) == first
    assert [path.name for path in made.out.parent.iterdir()] == ["child"]


def test_the_tokenizer_and_the_card_come_along_and_no_code_of_the_directory_is_run(tmp_path: Path) -> None:
    made, tokens, text = Made(tmp_path, MIXED), tiny_tokens(), "drei Äpfel"
    ids = load_tokenizer(made.parent).encode(text)
    assert AutoTokenizer.from_pretrained(made.out, trust_remote_code=True).encode(text) == ids
    realise(made.definition, made.parent, made.pieces, made.out, "# mine\n")
    assert (made.out / "README.md").read_text() == "# mine\n"
    for name in ("configuration_decilm.py", "modeling_decilm.py"):
        code = (made.out / name).read_text()
        assert "puzzledsl" not in code
        (made.out / name).write_text("raise SystemExit('ran')\n")
    assert load_tokenizer(made.out).encode(text) == ids
    assert torch.equal(load_child(made.out)(tokens).logits, made.child(tokens).logits)
    assert torch.equal(load_checkpoint(made.out)(tokens).logits, made.child(tokens).logits)
    assert torch.equal(load_checkpoint(made.parent)(tokens).logits, load_parent(made.parent)(tokens).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_keep_the_parents_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    parent = save_tiny(tmp_path / "parent", layers=4)
    load_parent(parent, dtype=dtype).save_pretrained(parent)
    realise(define(MIXED), parent, random_pieces(tiny_model(layers=4), MIXED), tmp_path / "child")
    with safe_open(tmp_path / "child" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {dtype}  # noqa: SIM118
    assert load_child(tmp_path / "child").dtype == torch.float32


def test_a_foreign_directory_is_not_overwritten(tmp_path: Path) -> None:
    made = Made(tmp_path, [PARENT])
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    for out in (other, made.parent, tmp_path / "parent" / "config.json"):
        found = refused(realise, made.definition, made.parent, made.pieces, out)
        assert found.kind == WouldOverwrite
    assert (other / "thesis.tex").read_text() == "x"


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({}, "unlike weights linear.weight"),
        ({"linear.weight": torch.zeros(24, 23)}, "is (24, 23), not (24, 24)"),
        ({"linear.weight": torch.zeros(24, 24), "odd": torch.zeros(1)}, "unlike weights odd"),
        (None, "names no piece"),
    ],
)
def test_a_piece_that_does_not_fit_is_a_diagnostic(
    tmp_path: Path, weights: dict[str, torch.Tensor] | None, reason: str
) -> None:
    parent = save_tiny(tmp_path / "parent", layers=1)
    piece = None if weights is None else "attention-0"
    layer = LayerDefinition(attention=LA, ffn=F, attention_piece=piece)
    definition = ModelDefinition(name="c", search="c", parent="p", layers=(layer,))
    found = refused(realise, definition, parent, {"attention-0": weights}.__getitem__, tmp_path / "out")
    assert found.kind == PieceDoesNotFit and reason in found.message
    assert (piece or "(none)") in found.message and not (tmp_path / "out").exists()
    found = refused(assemble, load_parent(parent), definition, {"attention-0": weights}.__getitem__)
    assert found.kind == PieceDoesNotFit and reason in found.message
    found = refused(realise, define([PARENT] * 2), parent, {}.__getitem__, tmp_path / "out")
    assert found.kind == NoSuchLayer


BROKEN: list[dict[str, object]] = [
    *({"block_configs": wrong} for wrong in (None, [], [{}, {}], [{"attention": {}, "ffn": {}}] * 2)),
    *({"base_model_type": wrong} for wrong in ("nonsense", 3)),
]


@pytest.mark.parametrize("changes", BROKEN)
def test_a_broken_child_is_a_diagnostic(tmp_path: Path, changes: dict[str, object]) -> None:
    made = Made(tmp_path, [(NA, F), (G1, NF)])
    path = made.out / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert refused(load_child, made.out).kind == NotAChild
    assert refused(load_child, made.parent).kind == NotAChild
