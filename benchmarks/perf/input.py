"""Input pipelines side by side: images a second and core, and the gap between two epochs."""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks.utils import TransformGroups, as_classification_dataset
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda.data.keyed import KeyedSamples, ShuffledBatches
from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.models.preprocessing import eval_view
from avalanche_proxyfda.pixels import RowStore, pixel_views
from avalanche_proxyfda.pixels.decode import simplejpeg
from avalanche_proxyfda.streams.files.encoded import for_view
from avalanche_proxyfda.streams.files.images import ImageFiles
from benchmarks.models.backbone import pil_view
from benchmarks.perf.bounds import Bound
from benchmarks.perf.photographs import write_photographs
from benchmarks.perf.report import machine, report
from benchmarks.perf.stats import format_spread, ratios, spread

BOUNDS = (
    Bound("milliseconds of an image, tensor", 1.0, "ms"),
    Bound("pil / 3 over tensor", 1.0, "x"),
    Bound("epoch gap", 0.02, "of an epoch"),
)
PIPELINES = ("pil", "tensor", "cached")
VIEWS = ("none", "flip-crop")
_CLIP = {
    "library": "open_clip",
    "size": 224,
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}


@dataclass(frozen=True)
class _Arm:
    """A pipeline with a view."""

    pipeline: str
    augment: str

    @property
    def name(self) -> str:
        """Pipeline and view, for tables."""
        return f"{self.pipeline}, {self.augment}"

    def data(self, files: ImageFiles, store: RowStore) -> Any:
        """The Avalanche data set of the images."""
        evaluation = eval_view(_CLIP)
        view: Any = pil_view(evaluation, self.augment)
        if self.pipeline != "pil":
            kind: Any = self.augment
            view = pixel_views(evaluation, kind, store if self.pipeline == "cached" else None)[0]
        return as_classification_dataset(
            for_view(files, view), TransformGroups({"train": (view, None), "eval": (view, None)})
        )

    def loader(self, data: Any, batch: int, workers: int, pin: bool) -> Any:
        """The loader of a run, in pinned memory for a device that reads it faster."""
        if self.pipeline == "pil":
            return DataLoader(
                data,
                batch,
                shuffle=True,
                num_workers=workers,
                collate_fn=data.collate_fn,
                pin_memory=pin,
            )
        return SteadyLoader(
            KeyedSamples(data, 0),
            ShuffledBatches(len(data), batch, 0),
            num_workers=workers,
            collate_fn=data.collate_fn,
            pin_memory=pin,
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Load epochs by each pipeline in turns, in one process and one thread.

    A round is one epoch of each pipeline and view, in an order that is drawn anew. Times are CPU
    seconds of the process, so work of other processes counts little.

    Raises:
        ValueError: for a number below 1.
    """
    images = args.images or (24 if args.quick else 256)
    rounds = args.rounds or (2 if args.quick else 7)
    if min(images, rounds, args.batch) < 1:
        raise ValueError("--images, --rounds and --batch must be positive")
    device, about = torch.device(args.device), machine(args.device)
    arms = [_Arm(pipeline, augment) for augment in VIEWS for pipeline in PIPELINES]
    raw: dict[str, Any] = {arm.name: {"loaded": [], "arrived": []} for arm in arms}
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        files = ImageFiles(
            write_photographs(Path(folder), images, args.quality), [k % 2 for k in range(images)]
        )
        size = sum(path.stat().st_size for path in files.paths) / images
        store = RowStore(Path(folder) / "rows", threads=1)
        pin = pins_memory(device)
        loaders = {arm: arm.loader(arm.data(files, store), args.batch, 0, pin) for arm in arms}
        order = random.Random(0)
        for _ in range(rounds):
            for arm in order.sample(arms, len(arms)):
                loaded, arrived = _epoch(loaders[arm], device)
                raw[arm.name]["loaded"].append(1e3 * loaded / images)
                raw[arm.name]["arrived"].append(1e3 * arrived / images)
        small = max(1, min(args.batch, images // 16))  # sixteen batches an epoch, or more
        for arm in (arm for arm in arms if arm.augment == "none"):
            loader = arm.loader(arm.data(files, store), small, 1, pin)
            raw[arm.name]["waits"] = _waits(loader, 1 if args.quick else 5)
    settings = {
        "images": images,
        "batch": args.batch,
        "rounds": rounds,
        "device": str(device),
        "quality": args.quality,
        "bytes": round(size),
        "decoder": "torchvision" if simplejpeg is None else "simplejpeg",
        "quick": args.quick,
    }
    summary = summarise(raw)
    checked = {
        "milliseconds of an image, tensor": summary["tensor, none"]["loaded"]["median"],
        "pil / 3 over tensor": 3 / summary["tensor, none"]["faster"]["median"],
        "epoch gap": summary["tensor, none"]["gap"]["median"],
    }
    return report("input", settings, raw, summary, checked, about)


def _epoch(loader: Any, device: torch.device) -> tuple[float, float]:
    """CPU seconds of one epoch until its batches are loaded, and until they are on the device."""
    started, moving = time.process_time(), 0.0
    for batch in loader:
        here = time.process_time()
        batch[0].to(device)
        moving += time.process_time() - here
    spent = time.process_time() - started
    return spent - moving, spent


def _waits(loader: Any, epochs: int) -> list[list[float]]:
    """Seconds that a consumer waits for each batch, by epoch, with one worker process.

    The consumer takes 1.5 times as long for a batch as the worker, as a training that its device
    bounds. The first epoch, in which the worker starts, is left out.
    """
    waits, pause = [], 0.0
    for epoch in range(epochs + 1):
        if isinstance(loader, SteadyLoader):
            loader.set_epochs(epoch, epochs + 1)
        waits.append([])
        last = time.perf_counter()
        for _ in loader:
            waits[-1].append(time.perf_counter() - last)
            time.sleep(pause)
            last = time.perf_counter()
        pause = pause or 1.5 * statistics.median(waits[-1][1:])
    return [[pause, *found] for found in waits[1:]]


def summarise(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Medians and quartiles; ``faster`` is relative to ``pil`` in the same round."""
    summary: dict[str, Any] = {}
    for augment in VIEWS:
        plain = raw[f"pil, {augment}"]["loaded"]
        for pipeline in PIPELINES:
            times = raw[f"{pipeline}, {augment}"]
            summary[f"{pipeline}, {augment}"] = {
                "loaded": spread(times["loaded"]),
                "arrived": spread(times["arrived"]),
                "faster": spread(ratios(plain, times["loaded"])),
            }
        for pipeline in PIPELINES:
            times = raw[f"{pipeline}, {augment}"]
            if "waits" in times:
                gaps = [_gap(pause, waits) for pause, *waits in times["waits"]]
                summary[f"{pipeline}, {augment}"]["gap"] = spread(gaps)
    return summary


def _gap(pause: float, waits: list[float]) -> float:
    """The wait for an epoch's first batch above the usual wait, as a share of the epoch."""
    above = max(0.0, waits[0] - statistics.median(waits[1:]))
    return above / (sum(waits) + pause * len(waits))


def table(measured: Mapping[str, Any]) -> str:
    """Format the pipelines as a Markdown table."""
    rows = [
        "| view | pipeline | images a second and core | with the step to the device | × pil | "
        "epoch gap |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for augment in VIEWS:
        for pipeline in PIPELINES:
            times = measured["summary"][f"{pipeline}, {augment}"]
            loaded, arrived = (1e3 / times[k]["median"] for k in ("loaded", "arrived"))
            gap = f"{100 * times['gap']['median']:.2f} %" if "gap" in times else ""
            rows.append(
                f"| {augment} | {pipeline} | {loaded:,.0f} | {arrived:,.0f} | "
                f"{format_spread(times['faster'], 2)} | {gap} |"
            )
    return "\n".join(rows)


def line(measured: Mapping[str, Any]) -> str:
    """Summarise the measurement in one line."""
    summary, settings = measured["summary"], measured["settings"]
    rate = 1e3 / summary["tensor, none"]["loaded"]["median"]
    return (
        f"tensor: {rate:,.0f} images a second and core, "
        f"{summary['tensor, none']['faster']['median']:.2f} x pil, for JPEGs of "
        f"{settings['bytes'] / 1e3:.0f} kB; epoch gap "
        f"{100 * summary['tensor, none']['gap']['median']:.2f} %"
    )


def draw(measured: Mapping[str, Any]) -> Figure:
    """Draw the rates as bars on a logarithmic axis."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    names = [f"{pipeline}, {augment}" for augment in VIEWS for pipeline in PIPELINES]
    rates = [1e3 / measured["summary"][name]["loaded"]["median"] for name in names]
    axes.barh(names, rates)
    axes.set_xscale("log")
    axes.set_xlabel("images a second and core")
    axes.invert_yaxis()
    return figure
