"""Digests that a stamp keeps: a field that leaves the language makes nothing stale."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import Data, HfData, LayerChoice, ParquetData, Space, Where
from puzzledsl.pipeline.stamps import data_fingerprint, meaning


def test_a_space_has_the_digest_it_had_with_a_width_of_the_whole_model() -> None:
    layer = LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(),))
    space = Space(
        name="w",
        parent="p",
        layers=(layer,),
        where=Where(file="a.pzl", line=1, column=1, end_line=1, end_column=6),
    )
    assert meaning(space) == "f45bdd18063163b4439663049346ea664c82f4eeaf74e225ac5da951b53ffede"


def test_a_local_data_set_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A data set of the hub has no files here: its declaration is all that is known of it."""
    where = Where(file="a.pzl", line=1, column=1, end_line=1, end_column=6)
    local = Data(name="d", source=HfData(id="set"), where=where)
    of_hub = data_fingerprint(local, tmp_path)
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "data" / "train.parquet").write_bytes(b"rows")
    before = data_fingerprint(local, tmp_path)
    (tmp_path / "set" / "data" / "train.parquet").write_bytes(b"other rows")
    assert len({of_hub, before, data_fingerprint(local, tmp_path)}) == 3
    columns = local.model_copy(update={"source": ParquetData(paths=("set/**/*.parquet",))})
    first = data_fingerprint(columns, tmp_path)
    (tmp_path / "set" / "data" / "train.parquet").write_bytes(b"rows")
    assert data_fingerprint(columns, tmp_path) != first
    assert data_fingerprint(local, tmp_path) == before
