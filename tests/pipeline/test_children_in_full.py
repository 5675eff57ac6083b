"""Children that an evaluation measures in full: which they are, what it rests on, and what it costs."""

import json
from pathlib import Path

import pytest

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import evaluated_models
from puzzledsl.pipeline.tasks.children import Eval
from tests.checker.programs import lowered

PROGRAM = """\
parent p = hf("parent")
space w of p { attention = parent | noop, ffn = parent | noop }
data corpus = text("corpus.txt")
bld pieces of w { tokens = 0 }
score kl of pieces = replace_one(kl_divergence)
search best of w { minimize kl, require params <= 0.8x }
search rule of best { prefer params }
uptrain final of best { tokens = 1Ki }
uptrain longer of best { tokens = 2Ki }
export ship of rule = hf("out")
"""


CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "intermediate_size": 192,
    "vocab_size": 256,
    "tie_word_embeddings": False,
}
CHILDREN = (("realise", "best"), ("realise", "rule"), ("uptrain", "final"), ("uptrain", "longer"))


def run_of(folder: Path, body: str, of: str = "final") -> Context:
    """A run of PROGRAM with an evaluation of `of`, of whose children only directories are there."""
    text = PROGRAM + f'eval quality of {of} = tasks("items.jsonl") {{ data = corpus, tokens = 256{body} }}\n'
    (folder / "parent").mkdir(exist_ok=True)
    (folder / "parent" / "config.json").write_text(json.dumps(CONFIG))
    program = lowered(folder, text)
    (folder / "corpus.txt").write_text("word " * 99)
    item = {"context": "a " * 400, "choices": ["b", "c"], "answer": 0}
    (folder / "items.jsonl").write_text((json.dumps(item) + "\n") * 8)
    build = BuildDir(folder / "build")
    for _, child in CHILDREN:
        build.model(child).mkdir(parents=True, exist_ok=True)
    return Context(folder / "program.pzl", program, build, text)


@pytest.mark.parametrize(
    ("of", "body", "models", "full"),
    [
        ("final", "", ["best", "final", "rule"], {"best", "final"}),
        ("best", "", ["best", "rule"], {"best"}),
        ("final", ", full = rule + final", ["best", "final", "rule"], {"final", "rule"}),
        ("final", ", full = longer + final", ["best", "final", "longer", "rule"], {"final", "longer"}),
        ("best", ", full = best + longer", ["best", "longer", "rule"], {"best", "longer"}),
    ],
)
def test_models_and_those_in_full(
    tmp_path: Path, of: str, body: str, models: list[str], full: set[str]
) -> None:
    found, measured = evaluated_models(run_of(tmp_path, body, of), "quality")
    assert (list(found), measured) == (models, full)


def test_a_child_that_is_named_and_not_made_is_a_mistake(tmp_path: Path) -> None:
    for body, missing in ((", full = rule + final", "rule"), (", full = final + longer", "longer")):
        ctx = run_of(tmp_path, body)
        for stage, name in (("realise", "best"), ("uptrain", "final")):
            ctx.stamps.write(stage, name, {}, [])
        with pytest.raises(DiagnosticError) as told:
            Eval(ctx, "quality").run()
        assert [d.code for d in told.value.diagnostics] == ["E0603"] and f"`{missing}`" in str(told.value)


def inputs(ctx: Context) -> dict[str, str]:
    """Digests, as if all children were made."""
    for stage, name in CHILDREN:
        ctx.stamps.write(stage, name, {}, [])
    return Eval(ctx, "quality").inputs()
