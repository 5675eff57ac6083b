"""Sources of text, by the class of their node. A new source is one more file here and one more entry."""

from __future__ import annotations

from typing import Any

from puzzledsl.data.sources.hf import HubDataset
from puzzledsl.data.sources.local_files import JsonLines, ParquetFiles, TaskFiles, TextFiles
from puzzledsl.data.sources.sampled import SampledText
from puzzledsl.data.sources.source import Source
from puzzledsl.ir import nodes

SOURCES: dict[type[nodes.Picked], Source[Any]] = {
    nodes.TextData: TextFiles(),
    nodes.JsonlData: JsonLines(),
    nodes.ParquetData: ParquetFiles(),
    nodes.HfData: HubDataset(),
    nodes.SampledData: SampledText(),
    nodes.TaskData: TaskFiles(),
}
