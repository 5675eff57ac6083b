"""Summary of the page in a few sentences."""

from __future__ import annotations

import math

from puzzledsl.base.phrases import listed
from puzzledsl.report import numbers
from puzzledsl.report.headline import ACCURACY_KEPT, BEYOND_CHANCE, FILE_SIZE, Headline, headlines
from puzzledsl.report.sections.kept import AT_CHANCE, TOO_FEW
from puzzledsl.report.sections.searches import describe
from puzzledsl.report.subject import Subject

PROOFS = {
    "optimal": "The search proves this of its objective only: no other child of its space that meets the requirements has "
    "a better {objective}. Quality is measured, not proven.",
    "feasible": "The search has no proof: a child that meets the requirements and has a better {objective} may exist. "
    "Quality is measured, not proven.",
    "infeasible": "No child meets every requirement; below is which of them conflict, and how far each could go.",
    "unknown": "The search found no child in the time it had, and excluded none.",
}


REFINED = (
    "It is the best of {count} children that were measured around the proven optimum, and nothing proves it. The search "
    "proves of its objective only that no other child of its space that meets the requirements has a better {objective} "
    "than that optimum. Quality is measured, not proven."
)
"""Verdict of a proven search whose child is not its optimum."""
REFINED_UNPROVEN = (
    "It is the best of {count} children that were measured around the solver's, and nothing proves it. The search has no "
    "proof: a child that meets the requirements and has a better {objective} may exist. Quality is measured, not proven."
)


JUDGED = (
    "Of {count} children that were built and judged, {met} meet what the search requires of their quality, and this is "
    "the one with the best {objective}. That it meets them is measured; proven is only that no child with a smaller "
    "predicted loss has a better {objective}."
)
"""Verdict of a search that bounds what a judge measures."""
NONE_MEETS = (
    "None of {count} children that were built and judged meets what the search requires of their quality; this one "
    "comes nearest."
)


def verdict(subject: Subject) -> str:
    """Compare the child with its parent, and name the proof of the search. Empty before the search is solved."""
    if subject.result is None:
        return ""
    by_label = {headline.label: headline for headline in headlines(subject)}
    parts = [part for part in (_speed(by_label), _kept(by_label), _size(by_label)) if part]
    first = f"The child {listed(parts)}. " if parts and subject.best else ""
    return first + _gap(subject) + _proof(subject, subject.result.status)


def _gap(subject: Subject) -> str:
    """KL and top-1 agreement in words: exp(-KL) is the geometric mean of the child's over the parent's probability."""
    for declaration, evaluation in subject.evaluations:
        final = subject.final(declaration, evaluation)
        figures = subject.figures(evaluation, final) if final else {}
        if "kl" not in figures or not math.isfinite(figures["kl"].value):
            continue
        lost = numbers.share(-math.expm1(-figures["kl"].value)).text
        where = f" of {evaluation.texts[0]}" if evaluation.texts else ""
        text = f"To whatever token its parent would say next, it gives a probability that is {lost} lower on average"
        if "top1_agreement" in figures:
            same = numbers.share(figures["top1_agreement"].value).text
            text += f", and at {same} of the positions{where} both find the same token likeliest"
        return text + ". "
    return ""


def _proof(subject: Subject, status: str) -> str:
    objective, found = describe(subject.search.objective), subject.refinement
    if found is not None and found.best.judged:
        met = sum(not child.missed for child in found.children)
        return (JUDGED if met else NONE_MEETS).format(count=len(found.children), met=met, objective=objective)
    if found is None or subject.optimum is None or found.solution.layers == subject.optimum.layers:
        return PROOFS[status].format(objective=objective)
    count = len(found.children)
    text = REFINED if status == "optimal" else REFINED_UNPROVEN
    return text.format(objective=objective, count=count)


def _speed(found: dict[str, Headline]) -> str:
    for label, how in (("faster, measured", "measured"), ("faster, predicted", "predicted")):
        if headline := found.get(label):
            scenario = headline.detail.split(":")[0]
            return f"is {headline.number.text} as fast as its parent in {scenario} ({how})"
    return ""


def _kept(found: dict[str, Headline]) -> str:
    if headline := found.get(BEYOND_CHANCE):
        return f"keeps {headline.number.text} of its accuracy beyond chance"
    if (headline := found.get("accuracy")) and headline.number.text == AT_CHANCE:
        return "answers no better than chance"
    headline = found.get(ACCURACY_KEPT)
    if headline and headline.number.text == TOO_FEW:
        return ""
    return f"keeps {headline.number.text} of its accuracy" if headline else ""


def _size(found: dict[str, Headline]) -> str:
    if (file := found.get(FILE_SIZE)) is not None:
        word = "smaller" if file.number.value < 0 else "larger"
        return f"has a file that is {numbers.share(abs(file.number.value)).text} {word}"
    headline = found.get("parameters")
    if headline is None:
        return ""
    if headline.number.text.startswith("±"):
        return "has as many parameters"
    word = "fewer" if headline.number.value < 0 else "more"
    return f"has {numbers.share(abs(headline.number.value)).text} {word} parameters"
