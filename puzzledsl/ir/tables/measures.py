"""Measures of a model beside its parent on text: one record each, read by evaluations, reports and docs.

`evaluate.divergence` has the measurement of each.
"""

from __future__ import annotations

from typing import Literal

from puzzledsl.base.frozen import record


@record
class Measure:
    """A figure of a text: the mean over its positions.

    `label`: its name in reports. `better`: less or more of it. `of_next`: it is about each next token, of which a block has one
    less than positions. `exponential`: the figure is the exponential of the mean.
    """

    name: str
    label: str
    better: Literal["less", "more"]
    doc: str
    unit: str = ""
    is_share: bool = False
    of_next: bool = False
    exponential: bool = False


_AGREEMENT = (
    "Share of positions at which the parent's likeliest token is among the {} likeliest of the model."
)
_MEASURES = (
    Measure(
        "kl",
        "KL divergence to the parent",
        "less",
        "KL divergence of the model from its parent, in nats a token.",
        unit="nats",
    ),
    Measure(
        "perplexity",
        "Perplexity",
        "less",
        "Exponential of the cross-entropy of the next token.",
        of_next=True,
        exponential=True,
    ),
    Measure("top1_agreement", "Top-1 agreement with the parent", "more", _AGREEMENT.format(1), is_share=True),
    *(
        Measure(
            f"top{k}_agreement",
            f"Parent's first choice among the {k} likeliest",
            "more",
            _AGREEMENT.format(k),
            is_share=True,
        )
        for k in (5, 10)
    ),
)
MEASURES = {measure.name: measure for measure in _MEASURES}
