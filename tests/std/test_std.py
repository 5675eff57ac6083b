"""The shipped files: they check, and their numbers are those of the datasheets and of the published checkpoints."""

import json
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.published import BOUNDS
from puzzledsl.base.diagnostics import Sink
from puzzledsl.base.resources import listing, resource
from puzzledsl.checker.check import check, shipped_profiles
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Shape
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse
from tests.cases import more
from tests.checker.programs import lowered, mistakes

CHECKOUT = Path(__file__).parents[2]

# Dense TFLOP/s bf16 / fp8, bandwidth in TB/s, capacity in MiB as drivers report it, link in GB/s.
DATASHEETS = {
    "h100_sxm": ("989", "1979", "3.35", 81559, 450),
    "h200": ("989", "1979", "4.8", 143771, 450),
    "a100": ("312", None, "2.04", 81920, 300),
    "l40s": ("362", "733", "0.864", 46068, 32),
    "b200": ("2250", "4500", "7.67", 183359, 900),
    "rtx4090": ("165", "330", "1.008", 24564, 32),
    "rtx5090": ("209", "419", "1.792", 32607, 64),
    "mi300x": ("1307", "2615", "5.3", 196592, 448),
}

IMAGES = 416_866_032
"""Parameters of Gemma 3's image encoder; a projection and a norm lead from it to the text model."""
# What the published checkpoints hold, each tensor once.
PUBLISHED_PARAMS = {
    "gpt_oss_20b": 20_914_757_184,
    "gpt_oss_120b": 116_829_156_672,
    "llama3_1_8b": 8_030_261_248,
    "llama3_1_70b": 70_553_706_496,
    "llama3_1_405b": 405_853_388_800,
    "llama3_2_1b": 1_235_814_400,
    "llama3_2_3b": 3_212_749_824,
    "llama3_3_70b": 70_553_706_496,
    "mistral_7b_v0_1": 7_241_732_096,
    "mistral_7b_v0_3": 7_248_023_552,
    "mistral_nemo_12b": 12_247_782_400,
    "mistral_small_24b": 23_572_403_200,
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_3b": 3_085_938_688,
    "qwen2_5_7b": 7_615_616_512,
    "qwen2_5_14b": 14_770_033_664,
    "qwen2_5_32b": 32_763_876_352,
    "qwen2_5_72b": 72_706_203_648,
    "qwen3_0_6b": 596_049_920,
    "qwen3_1_7b": 1_720_574_976,
    "qwen3_4b": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200,
    "qwen3_32b": 32_762_123_264,
    "nemotron_h_8b": 8_100_852_736,
    "nemotron_h_47b": 46_791_554_816,
    "nemotron_h_56b": 56_324_350_464,
    "nemotron_nano_9b_v2": 8_888_227_328,
    "nemotron_3_nano_30b_a3b": 31_577_937_344 + 23 * 128,  # published without buffers: a bias of each router
    "qwen3_30b_a3b": 30_532_122_624,
    "qwen3_235b_a22b": 235_093_634_560,
    "qwen3_next_80b_a3b": 79_674_391_296,  # Qwen3-Coder-Next's total; the Instruct model's has one more layer
    "qwen3_5_9b": 8_953_803_264,  # the text parts: their GGUF files say 8.95, 26.90 and 34.66 billion
    "qwen3_5_27b": 26_895_998_464,
    "qwen3_5_35b_a3b": 34_660_610_688,
    "gemma3_1b": 999_885_952,
    "gemma3_4b": 4_300_079_472 - IMAGES - 1152 * (2560 + 1),
    "gemma3_12b": 12_187_325_040 - IMAGES - 1152 * (3840 + 1),
    "gemma3_27b": 27_432_406_640 - IMAGES - 1152 * (5376 + 1),
    "olmo2_1b": 1_484_916_736,
    "olmo2_7b": 7_298_617_344,
    "olmo2_13b": 13_716_198_400,
    "olmo2_32b": 32_234_279_936,
    "phi3_mini": 3_821_079_552,
    "phi3_medium": 13_960_238_080,
    "phi4": 14_659_507_200,
    "phi4_mini": 3_836_021_760,
    "granite3_3_2b": 2_533_539_840,
    "granite3_3_8b": 8_170_864_640,
    "smollm3_3b": 3_075_098_624,
    "smollm2_135m": 134_515_008,
    "smollm2_360m": 361_821_120,
    "smollm2_1_7b": 1_711_376_384,
}


@pytest.mark.parametrize("name", listing("spaces"))
def test_every_file_checks(name: str) -> None:
    assert check(resource("spaces", name), {}).diagnostics == ()


def test_hardware_is_what_the_datasheets_say() -> None:
    profiles = shipped_profiles()
    assert set(profiles) == set(DATASHEETS)
    for name, (bf16, fp8, bandwidth, memory, link) in DATASHEETS.items():
        spec = profiles[name]
        peaks = {"bf16": Fraction(bf16) * 10**12} | ({"fp8": Fraction(fp8) * 10**12} if fp8 else {})
        assert {d: f for d, f in spec.flop_per_s.items() if d != "fp4"} == peaks, name
        assert spec.bandwidth_bytes_per_s == Fraction(bandwidth) * 10**12, name
        assert (spec.memory_bytes, spec.link_bytes_per_s) == (memory * 2**20, Fraction(link * 10**9)), name
        assert (spec.gpus, spec.dtype, spec.kv_dtype, spec.embedding_dtype) == (1, "bf16", "bf16", "bf16")


@pytest.mark.parametrize("name", ["h200", "b200", "rtx4090", "rtx5090", "mi300x"])
def test_what_a_profile_does_not_say_is_as_on_the_h100(name: str) -> None:
    """The language's defaults are the constants of h100_sxm, which spells them out."""
    profiles = shipped_profiles()
    for constant in (*BOUNDS, "reserve_bytes", "kv_fraction", "page_tokens", "max_batch"):
        assert getattr(profiles[name], constant) == getattr(profiles["h100_sxm"], constant), constant


SOURCES = re.compile(
    r"datasheet|whitepaper|nvidia-smi|rocminfo|pull request|TensorRT-LLM documentation|(benchmarks/[\w./]*\w)"
)


def numbers_of(statements: Iterable[tree.Stmt]) -> Iterator[tree.Assign]:
    """Every setting of a body and its sections whose value is a number."""
    for statement in statements:
        if isinstance(statement, tree.Section):
            yield from numbers_of(statement.body)
        elif isinstance(statement, tree.Assign) and isinstance(statement.value, tree.Literal_):
            yield statement


def test_every_number_names_its_source() -> None:
    file = resource("spaces", "std/hardware.pzl")
    text, sink = file.read_text("utf-8"), Sink()
    module, lines = parse(text, str(file), sink), text.splitlines()
    declared = [item for item in module.items if isinstance(item, tree.Decl)]
    assert len(declared) == len(DATASHEETS) and not sink.items
    for profile in declared:
        found = list(numbers_of(profile.body or ()))
        assert len(found) >= 4, profile.name.text
        for setting in found:
            _, _, comment = lines[setting.span.line - 1].partition("#")
            source = SOURCES.search(comment)
            assert source, lines[setting.span.line - 1]
            if source.group(1):
                assert (CHECKOUT / source.group(1)).is_file(), source.group(1)


WINDOWS = {"mistral_7b_v0_1": 4096, "phi3_mini": 2047, "phi3_medium": 2047, "phi4_mini": 262144}
"""`sliding_window` of the published config.json, where it holds for every layer."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shape]:
    """The shape of every parent that ships."""
    text = 'use "std/parents.pzl"\n' + "".join(f"parent p_{name} = {name}\n" for name in PUBLISHED_PARAMS)
    parents = lowered(tmp_path_factory.mktemp("std"), text).parents
    return {name: parents[f"p_{name}"].shape for name in PUBLISHED_PARAMS}


def test_parents_are_the_published_checkpoints(shapes: dict[str, Shape]) -> None:
    assert {name: total_params(shape) for name, shape in shapes.items()} == PUBLISHED_PARAMS
    windows = {name: {each.window for each in shape.each} for name, shape in shapes.items()}
    assert {name: window for name, (window, *more) in windows.items() if window and not more} == WINDOWS


def test_every_parent_names_its_repository() -> None:
    text = resource("spaces", "std/parents.pzl").read_text("utf-8")
    named = re.findall(r"^# ([\w-]+/[\w.-]+)\n(?:#.*\n)*let (\w+) = ", text, re.MULTILINE)
    assert (
        [name for _, name in named] == re.findall(r"^let (\w+)", text, re.MULTILINE) == list(PUBLISHED_PARAMS)
    )
    assert len({id for id, _ in named}) == len(named)


@pytest.mark.parametrize(
    "name", ["llama3_2_1b", "qwen3_4b", *more("mistral_nemo_12b", "qwen2_5_3b", "qwen2_5_7b", "smollm2_360m")]
)
def test_a_shape_counts_what_transformers_builds(shapes: dict[str, Shape], name: str) -> None:
    """With every tensor on the meta device: biases, head sizes, tied embeddings and norms of heads."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = shapes[name]
    config = AutoConfig.for_model(
        shape.family,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() == PUBLISHED_PARAMS[name]


def test_a_checkpoint_of_another_shape_is_found_out(tmp_path: Path) -> None:
    """`hf(directory, shape: …)` checks without the checkpoint, and against it once it is there: it has the published window."""
    text = 'use "std/parents.pzl" (mistral_7b_v0_1)\nparent p = hf("mistral", shape: mistral_7b_v0_1)\n'
    config = {  # `mistralai/Mistral-7B-v0.1/config.json`, as published
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "sliding_window": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
        "vocab_size": 32000,
    }  # fmt: skip
    (tmp_path / "mistral").mkdir()
    for written, expected in ((None, []), (config, []), (config | {"num_hidden_layers": 30}, [("E0406", 2)])):
        if written is not None:
            (tmp_path / "mistral" / "config.json").write_text(json.dumps(written))
        assert mistakes(tmp_path, text) == expected


def test_shipped_choices_fit_their_parents(tmp_path: Path) -> None:
    text = (
        'use "std/parents.pzl" as parents\nuse "std/spaces.pzl"\n'
        "parent big = parents.llama3_1_70b\nparent small = parents.smollm2_135m\nparent medium = parents.smollm2_360m\n"
        "parent seven = parents.qwen2_5_7b\nparent half = parents.qwen2_5_0_5b\n"
        "space a of big { attention = puzzle_attention, ffn = puzzle_ffn }\n"
        "space b of small { attention = puzzle_attention_kv3, ffn = puzzle_ffn_rounded(64) }\n"
        "space c of medium { attention = puzzle_attention_kv5, ffn = puzzle_ffn_rounded(32) }\n"
        "space d of seven { attention = puzzle_attention_kv4, ffn = puzzle_ffn }\n"
        "space e of half { attention = puzzle_attention_kv2, ffn = linear_or_noop }\n"
        "space f of big { attention = noop_only, ffn = noop_only }\n"
    )
    program = lowered(tmp_path, text)
    assert list(program.spaces) == ["a", "b", "c", "d", "e", "f"]
