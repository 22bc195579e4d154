"""A training that is killed: ``python -m benchmarks.accept.killed DEVICE FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from benchmarks.accept.on_resume import END, kill_this_process, train
from benchmarks.experiment.numerics import deterministic, let_cublas_repeat

if __name__ == "__main__":
    device, folder = torch.device(sys.argv[1]), Path(sys.argv[2])
    let_cublas_repeat(device)
    with deterministic(True):
        train("proxy-fda", device, folder, END, end=kill_this_process)
