"""A paged parent's layers are read once for each wave of replacements, not once for each replacement."""

from collections import Counter
from typing import Any

import pytest

from puzzledsl.models.placement import Pages
from puzzledsl.scoring import sweep as wavefront
from tests.scoring.cases import Case
from tests.tiles import cut

LAYERS = 4
METHOD: dict[str, Any] = {"metric": "kl_divergence", "samples": 40, "runs": (2, 2)}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(tmp_path_factory.mktemp("case"), model={"layers": LAYERS}, tokens=0)


@pytest.fixture
def reads(paged: list[int], monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Number of times that each layer is read, from now on with a parent of which one page is in memory."""
    found: Counter[str] = Counter()
    pin = Pages.pin

    def spy(self: Pages, page: Any) -> None:
        found[page.name] += page.name.startswith("model.layers.")
        pin(self, page)

    monkeypatch.setattr(Pages, "pin", spy)
    return found


@pytest.mark.parametrize("tokens", [8, 512])
def test_two_reads_of_every_layer_are_enough(
    tokens: int, case: Case, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for the parent itself, by which replacements are measured, and one for all of them; also with several groups."""
    cut(monkeypatch, group_tokens=tokens)
    case.anew(**METHOD)
    assert [reads[f"model.layers.{n}"] for n in range(LAYERS)] == [2] * LAYERS


@pytest.mark.parametrize("room_bytes", [0, 20_000])
def test_waves_that_fit_into_memory_find_the_same(
    room_bytes: int, case: Case, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    expected = case.anew(**METHOD).canonical_json()
    kept = {path: path.read_bytes() for path in case.kept()}
    assert kept
    reads = request.getfixturevalue("reads")
    monkeypatch.setattr(wavefront, "_room_bytes", lambda device: room_bytes)
    assert case.anew(**METHOD).canonical_json() == expected
    assert {path: path.read_bytes() for path in kept} == kept
    top = reads[f"model.layers.{LAYERS - 1}"]
    replacements = 8 * LAYERS + 3
    assert 2 < top <= (2 + replacements if room_bytes == 0 else replacements // 2)
