"""A new metric is its record and the verifier's own evaluation: everything else reads the record."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from tests.extending.copies import ROOT, Copy

RECORD = """    Metric(
        "prompt_flops",
        FLOPS,
        "less",
        "Floating-point operations of the prompts alone.",
        {"prefill_flop": "once"},
    ),
"""
VERIFIED = """            "prompt_flops": Fraction(sum(c.prefill_flop for c in costs)),
"""

PROGRAM = (
    (ROOT / "examples/frontier.pzl")
    .read_text("utf-8")
    .partition("frontier speed")[0]
    .replace("require chat.throughput >= 1.3x", "require chat.prompt_flops <= 0.8x")
)

EVERYWHERE = """
import contextlib, io, json, runpy, sys
from pathlib import Path
from puzzledsl.cli.main import run
from puzzledsl.server.completion import complete
from puzzledsl.server.hover import hover
from tests.server.texts import marked

folder = Path(sys.argv[1])

def said(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*arguments])
    return [code, out.getvalue() + err.getvalue()]

def changed(name, old, new):
    file = folder / f"{name}.pzl"
    file.write_text((folder / "program.pzl").read_text().replace(old, new))
    return said("check", str(file))

text = (folder / "program.pzl").read_text()
build = ["-o", str(folder / "build")]
found = {
    "check": said("check", str(folder / "program.pzl")),
    "misspelt": changed("misspelt", "chat.prompt_flops", "chat.prompt_flop"),
    "turned": changed("turned", "prompt_flops <= 0.8x", "prompt_flops >= 0.8x"),
    "unit": changed("unit", "prompt_flops <= 0.8x", "prompt_flops <= 8GiB"),
    "completion": [i.label for i in complete(*marked(text.replace("chat.prompt_flops", "chat.‸"), folder))],
    "hover": hover(*marked(text.replace("chat.prompt", "chat.p‸rompt"), folder)).contents.value,
    "cost": said("cost", str(folder / "program.pzl")),
    "solve": said("solve", str(folder / "program.pzl"), "best", *build),
    "report": said("report", str(folder / "program.pzl"), *build),
}
runpy.run_path("scripts/reference.py", run_name="__main__")
print(json.dumps(found))
"""


@pytest.mark.timeout(600)
def test_a_metric_is_its_record_and_the_verifiers_evaluation(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "tree")
    copy.insert("puzzledsl/ir/metric_records.py", '    Metric(\n        "cost_per_mtok"', RECORD)
    copy.insert("puzzledsl/search/verify/evaluation.py", '            "batch": Fraction(batch),', VERIFIED)
    assert len(copy.touched) == 2
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "program.pzl").write_text(PROGRAM, "utf-8")
    (folder / "frontier_kl.csv").write_bytes((ROOT / "examples/frontier_kl.csv").read_bytes())
    found = json.loads(copy.python(EVERYWHERE, str(folder)).splitlines()[-1])
    assert found["check"] == [0, found["check"][1]] and "warning" not in found["check"][1]
    assert found["misspelt"][0] == 1 and "did you mean `prompt_flops`?" in found["misspelt"][1]
    assert "W0304" in found["turned"][1] and "less of `chat.prompt_flops` is better" in found["turned"][1]
    assert found["unit"][0] == 1 and "FLOP" in found["unit"][1]
    assert "prompt_flops" in found["completion"]
    assert "`chat.prompt_flops` (FLOP): Floating-point operations of the prompts alone." in found["hover"]
    assert "the parent: " in found["hover"]
    assert found["cost"][0] == 0 and "prompt_flops" in found["cost"][1]
    assert found["solve"][0] == 0 and "optimal" in found["solve"][1]
    answer = json.loads((folder / "build/solutions/best.json").read_text("utf-8"))
    child, parent = (
        of["chat.prompt_flops"] for of in (answer["solutions"][0]["metrics"], answer["parent_metrics"])
    )
    assert 0 < Fraction(child) <= Fraction(4, 5) * Fraction(parent)
    assert found["report"][0] == 0 and "prompt_flops" in (folder / "build/report.html").read_text("utf-8")
    row = "| `prompt_flops` | FLOP | Floating-point operations of the prompts alone. |"
    assert row in (copy.root / "docs/language.md").read_text("utf-8")
    schemas = [
        p for p in (copy.root / "docs/schema").glob("*.json") if "prompt_flops" in p.read_text("utf-8")
    ]
    assert schemas, "the schema of ir.json names the metric"
