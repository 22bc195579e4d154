"""A check that no data set of the panel is learnt under another name."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche_proxyfda.streams.files.content import images_hash
from avalanche_proxyfda.streams.files.labelled import Labelled
from benchmarks.streams.panel import PanelData
from benchmarks.streams.stream import Stream


def check_unlearnt(stream: Stream, panel: Sequence[PanelData]) -> None:
    """Refuse a panel set with the images of a learnt set, such as a copy of its folder.

    The test images decide: no option of the stream changes which they are.

    Raises:
        ValueError: if contents of test images are equal; names both data sets.
    """
    for name, source in zip(stream.names, stream.sources, strict=False):
        for data in panel:
            learnt, probed = source.get("test"), getattr(data.sources.get("test"), "dataset", None)
            if not (isinstance(learnt, Labelled) and isinstance(probed, Labelled)):
                continue  # drawn images
            found = images_hash(learnt) if len(learnt) == len(probed) else None
            if found is not None and found == images_hash(probed):
                raise ValueError(
                    f"panel.sets: {data.name or data.images.name} has the test images of {name}, "
                    "which the stream learns: remove it from panel.sets"
                )
