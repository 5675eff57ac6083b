"""Table 7: the loss of a child by the text that its pieces were made on: one source, a mixture, or the parent's own."""

from __future__ import annotations

from benchmarks.paper.estimate import Estimate, difference, mean, verdict
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import HELDOUT, Study

PARTS = {"narrow": (1, 0, 0), "mixed": (1, 1, 0), "own": (0, 0, 1)}
"""Parts of the corpus, of the varied text and of the parent's own text in what is read."""
MADE_ON = {
    "narrow": "Wikipedia alone",
    "mixed": "half Wikipedia, half everyday questions",
    "own": "text that the parent wrote",
}
TEXTS = {HELDOUT: "Wikipedia", "_choice": "everyday questions", "_stories": "how-to texts and scenes"}
TOKENS = 2048
"""Tokens of each text that children are judged on."""


def run(study: Study) -> Result:
    """The loss on three kinds of text of the same child, its pieces made on three others."""
    lost: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for seed in study.seeds:
        for name, (corpus, varied, own) in PARTS.items():
            for text in TEXTS:  # the child is made for the first
                child = study.child(
                    TABLE.program,
                    "thinned",
                    text=text,
                    tokens=TOKENS,
                    seed=seed,
                    corpus_part=corpus,
                    varied_part=varied,
                    own_part=own,
                )
                lost.setdefault((name, text), []).append(child.kl)

    def gain(text: str, worse: str = "narrow", better: str = "mixed") -> Estimate:
        return difference(lost[worse, text], lost[better, text])

    rows: list[tuple[str | Estimate, ...]] = [
        (MADE_ON[name], *(mean(lost[name, text]) for text in TEXTS)) for name in PARTS
    ]
    rows.append(("narrow - mixed", *(gain(text) for text in TEXTS)))
    rows.append(("own - mixed", *(gain(text, "own") for text in TEXTS)))
    claims = [
        Claim(f"pieces made on a mixture lose less than on one source, judged on {TEXTS[text]}", gain(text))
        for text in reversed(TEXTS)
    ]
    figures: dict[str, float] = {}
    parts = []
    for name, rival in (("narrow", "Wikipedia alone"), ("own", "the parent's own text")):
        found = []
        for text, words in TEXTS.items():
            estimate = gain(text, name)
            figures[f"{name}_{text.strip('_')}"] = abs(estimate.value)
            found.append(_said(estimate, f"{{{name}_{text.strip('_')}}}", words))
        parts.append(f"Beside the mixture's child, that of {rival} loses {'; '.join(found)}.")
    columns = ("pieces made on", *(f"KL on {words}" for words in TEXTS.values()))
    return Result(columns, rows, claims, " ".join(parts), figures)


def _said(gain: Estimate, figure: str, text: str) -> str:
    how = {"agree": f"{figure} nats more", "disagree": f"{figure} nats less", "cannot tell": "as much"}
    return f"{how[verdict(gain)]} on {text}"


TABLE = Table(
    "table07",
    "Table 7",
    "Does it matter what text pieces are made on?",
    "no uptraining, text of distillation → MT-Bench, MMLU: books (Gutenberg) 7.98, 74.84; Distillation Mix 8.61, 78.39.",
    run,
)
