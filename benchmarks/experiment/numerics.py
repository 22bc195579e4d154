"""Torch's switches that decide the bits of a run, and the precision that ``auto`` means."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from avalanche_proxyfda._accelerator import computes_bf16
from avalanche_proxyfda.strategies.precision import check_precision
from benchmarks.config import Config, Train, changed
from benchmarks.experiment.measure import device_of

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE = (":4096:8", ":16:8")
"""Values of that variable with which cuBLAS repeats its bits, as NVIDIA says."""


@contextmanager
def numerics(train: Train) -> Iterator[None]:
    """Set ``train.deterministic`` and ``train.tf32`` inside the block; restore all after it.

    Some versions of torch read the variable of cuBLAS once, when a process begins to use a GPU. A
    process that used a GPU before without the variable may then refuse to be deterministic;
    :func:`let_cublas_repeat` prevents this.
    """
    with deterministic(train.deterministic), tf32(train.tf32):
        yield


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch choose deterministic algorithms alone, or raise; False changes nothing."""
    if not wanted:
        yield
        return
    cudnn, workspace = torch.backends.cudnn, os.environ.get(WORKSPACE)
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.deterministic, cudnn.benchmark
    if workspace not in REPEATABLE:
        os.environ[WORKSPACE] = REPEATABLE[0]
    try:
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            del os.environ[WORKSPACE]
        else:
            os.environ[WORKSPACE] = workspace


def let_cublas_repeat(device: torch.device) -> None:
    """Set the variable of cuBLAS for the whole process, before the process uses the GPU.

    Args:
        device: device of later runs; nothing is set unless it is a CUDA device.
    """
    if device.type == "cuda":
        os.environ.setdefault(WORKSPACE, REPEATABLE[0])


@contextmanager
def tf32(wanted: bool | None) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products and convolutions; None changes nothing."""
    if wanted is None:
        yield
        return
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch prefer fp32_precision
        try:
            older = products.allow_tf32, cudnn.allow_tf32
        except RuntimeError:  # torch refuses to read a setting of its newer interface
            older = None
        newer = () if older else _newer()
        products.allow_tf32 = cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if older is not None:
                products.allow_tf32, cudnn.allow_tf32 = older
            for place, value in newer:
                place.fp32_precision = value


def _newer() -> list[tuple[object, str]]:
    """Return the settings of torch's newer interface, with the places that hold them."""
    cudnn = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    return [(place, place.fp32_precision) for place in places]


def resolved(config: Config) -> Config:
    """Return the configuration with a precision in place of ``train.precision=auto``.

    ``auto`` is bf16 on an accelerator that has it, and float32 elsewhere. The identity of a
    configuration with ``auto`` is that of float32, so a run is resolved before it is named.

    Raises:
        ValueError: when torch does not know the device, or the machine does not have it.
    """
    if config.train.precision != "auto":
        return config
    precision = "bf16" if _has_bf16(device_of(config, touch=False)) else "float32"
    return changed(config, train=replace(config.train, precision=precision))


def _has_bf16(device: torch.device) -> bool:
    """Return True for an accelerator with bf16."""
    if device.type == "cpu":
        return False
    known = computes_bf16(device)
    if known is not None:
        return known
    try:
        check_precision("bf16", device)
    except ValueError:
        return False
    return True
