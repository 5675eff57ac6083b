"""Text-dependent quality: warn of a child that keeps much less of its parent on one text than on another.

It warns if the KL to the parent on one text is more than RATIO times that on another, and more than NATS above it.
The ratio alone would report texts on which both are tiny; the difference alone, texts that are merely harder.
"""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.ir.tables import Figure, TextGap

RATIO = 3.0
NATS = 0.2


def text_gap(texts: Mapping[str, Mapping[str, Figure]]) -> TextGap | None:
    """The nearest and the farthest text, where they are far enough apart. `texts`: figures by text, `kl` among them."""
    kl = {name: figures["kl"].value for name, figures in texts.items() if "kl" in figures}
    if len(kl) < 2:
        return None
    near, far = min(kl, key=lambda name: kl[name]), max(kl, key=lambda name: kl[name])
    if kl[far] > RATIO * kl[near] and kl[far] > kl[near] + NATS:
        return TextGap(near=near, far=far, near_kl=kl[near], far_kl=kl[far])
    return None
