"""The input pipelines: images that are finished on the device equal those of the CPU."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from avalanche.benchmarks.utils import TransformGroups, as_classification_dataset
from torch import Tensor

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda.data.keyed import KeyedSamples, ShuffledBatches
from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.models.preprocessing import eval_view
from avalanche_proxyfda.pixels import RowStore, pixel_views
from avalanche_proxyfda.streams.files.encoded import for_view
from avalanche_proxyfda.streams.files.images import ImageFiles
from benchmarks.accept.check import Check, Fault, Setting, within
from benchmarks.perf.photographs import write_photographs

_STD = 0.25
_VIEW = {"library": "open_clip", "size": 64, "mean": (0.5, 0.5, 0.5), "std": (_STD,) * 3}
_COUNT, _BATCH = 24, 8
_STEPS = 2 / 255 / _STD  # a device crops to within two steps of a pixel's 255


def checks() -> list[Check]:
    """Return the checks of this group."""
    return [
        Check(f"input: {pipeline} pipeline, {workers} workers", partial(_epochs, pipeline, workers))
        for pipeline in ("tensor", "cached")
        for workers in (0, 2)
    ]


def _epochs(pipeline: str, workers: int, setting: Setting) -> str:
    """Load two epochs of photographs with random crops, to the device and to the CPU."""
    worst, count = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), _COUNT)
        files = ImageFiles(paths, [k % 2 for k in range(_COUNT)])
        store = RowStore(Path(folder) / "rows", threads=1) if pipeline == "cached" else None
        kind: Literal["flip-crop"] = "flip-crop"
        view: Any = pixel_views(eval_view(_VIEW), kind, store)[0]
        data: Any = as_classification_dataset(
            for_view(files, view), TransformGroups({"train": (view, None), "eval": (view, None)})
        )
        loader = SteadyLoader(
            KeyedSamples(data, 0),
            ShuffledBatches(_COUNT, _BATCH, 0),
            num_workers=workers,
            collate_fn=data.collate_fn,
            pin_memory=pins_memory(setting.device),
        )
        seen = []
        for epoch in range(2):
            loader.set_epochs(epoch, 2)
            for batch in loader:
                ours: Tensor = batch[0].to(setting.device).cpu()
                right: Tensor = batch[0].to(torch.device("cpu"))
                if ours.shape != (_BATCH, 3, 64, 64):
                    raise Fault(f"a batch has the shape {tuple(ours.shape)}")
                worst = max(worst, float((ours - right).abs().max()))
                seen.append(right)
                count += len(right)
    if count != 2 * _COUNT:
        raise Fault(f"{count} images came in two epochs of {_COUNT}")
    if float(torch.cat(seen).std()) < 0.1:
        raise Fault("the images have no contrast")
    return within(f"{count} images, largest difference from the CPU's:", worst, _STEPS)
