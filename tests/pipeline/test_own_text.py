"""A whole run on text as people have it: files, chats, Parquet, a data set, mixed; and what stops one early."""

import json
from pathlib import Path

import pytest

from tests.commands import said, told
from tests.data.chats import CHATML, STRICT, chat_tokenizer
from tests.pipeline.tiny_program import SOURCE, read
from tests.tiny import save_tiny

MIX = """\
let chats = "chats/*.jsonl"
data notes = text("notes/*.txt", take: 4k)
data answers = jsonl(chats, messages: messages, loss: answers, part: 0%..80%)
data dump = parquet("dump.parquet", column: body)
data hub = hf("set", split: train)
data corpus = mix(notes: 4, answers: 3, dump: 1, hub: 2)
data heldout = jsonl(chats, messages: messages, loss: answers, part: 80%..100%)
"""
SYSTEM = '{"messages": [{"role": "system", "content": "x"}, {"role": "assistant", "content": "y"}]}'


def write_program(base: Path, template: str | None = CHATML) -> Path:
    """A program whose every stage reads the mix, and whose evaluation reads the other chats."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    save_tiny(base / "parent", layers=3, vocab=264)
    chat_tokenizer(template).save_pretrained(base / "parent")
    (base / "notes").mkdir()
    (base / "notes" / "a.txt").write_text("\n\n".join(f"note {i}, of things {i * i}" for i in range(250)))
    chats = [
        [{"role": "user", "content": f"{i} + {j}?"}, {"role": "assistant", "content": f"It is {i + j}."}]
        for i in range(20)
        for j in (1, 2, 2)
    ]
    (base / "chats").mkdir()
    lines = [json.dumps({"messages": chat}) + "\n" for chat in chats]
    (base / "chats" / "a.jsonl").write_text("".join(lines))
    rows = [{"body": f"row {i} of the dump, {i % 7}"} for i in range(90)]
    pq.write_table(pa.Table.from_pylist(rows), base / "dump.parquet")
    (base / "set" / "data").mkdir(parents=True)
    texts = [{"text": f"text {i} of a data set"} for i in range(60)]
    pq.write_table(pa.Table.from_pylist(texts), base / "set" / "data" / "train-00000-of-00001.parquet")
    items = [{"context": f"n {i}", "choices": ["a", "b"], "answer": 0} for i in range(3)]
    (base / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    text = SOURCE.replace('data corpus = text("corpus.txt")\n', MIX)
    text = text.replace("data = corpus, tokens = 256 }", "data = heldout, tokens = 256 }")
    text = text.replace("tokens = 512", "tokens = 256").replace("calibration = 512", "calibration = 256")
    file = base / "own.pzl"
    file.write_text(text[: text.index("search greedy")] + text[text.index("uptrain final") :])
    return file


@pytest.mark.states("data.counts")
def test_a_run_on_all_kinds_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, build = write_program(tmp_path), tmp_path / "build"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    code, _, err = said("run", program)
    assert code == 0, err
    assert err.count("exact duplicates dropped") == 2 and err.count("`take` ends it") == 1  # once a source
    texts = told("status", program)["texts"]
    notes, chat, dump, hub = texts["corpus"]
    assert notes["tokens"] == 4000 and notes["stopped"] and dump["documents"] == 90 and hub["documents"] == 60
    assert chat["duplicates"] + texts["heldout"][0]["duplicates"] == 20
    assert chat["documents"] + texts["heldout"][0]["documents"] == 40
    assert 0 < chat["learned_tokens"] < chat["tokens"]
    uptrained = read(build / "models" / "final" / "uptrain.json")
    assert 0 < uptrained["learned_tokens"] < uptrained["tokens"]
    assert uptrained["heldout_kl_after"] <= uptrained["heldout_kl_before"]
    models = {model["model"]: model["figures"] for model in read(build / "evals" / "quality.json")["models"]}
    assert models["final"]["kl"]["value"] > 0
    page = (build / "report.html").read_text()
    assert 'id="texts"' in page and "exact copies" in page and "what follows these tokens" in page


@pytest.mark.parametrize(
    ("template", "line", "code"),
    [
        (None, None, "E1210"),
        (STRICT, SYSTEM, "E1212"),
        (CHATML, '{"messages": [{"role": "asistant", "content": "x"}]}', "E1211"),
        (CHATML, '{"messages": ', "E1202"),
        (CHATML, '{"text": "hello"}', "E1203"),
    ],
)
def test_mistakes_in_chats_are_told_before_any_work(
    tmp_path: Path, template: str | None, line: str | None, code: str
) -> None:
    program, build = write_program(tmp_path, template), tmp_path / "build"
    if line is not None:
        (tmp_path / "chats" / "0.jsonl").write_text(line + "\n")
    status, _, err = said("run", program)
    assert status == 1 and f"error[{code}]" in err
    assert not (build / "library").exists() and not (build / "tokens").exists()
