"""Steps of a training on several ranks: :func:`on_ranks` starts this file with torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from avalanche_proxyfda.distributed import DistributedTraining, process_group
from benchmarks.perf.arms import Bench, arm_of
from benchmarks.perf.options import Setting
from benchmarks.perf.stepping import take_turns

_ARMS = ("finetune", "proxy-fda")


def on_ranks(
    ranks: int, model: str, batch: int, rounds: int, device: str = "auto"
) -> dict[str, list[float]]:
    """Train on several ranks that share each batch.

    Args:
        ranks: number of processes, with one thread each.
        model: see :class:`benchmarks.perf.options.Setting`.
        batch: B, images a batch on all ranks together.
        rounds: steps of each method.
        device: type of the devices, see :func:`avalanche_proxyfda.distributed.process_group`.

    Returns:
        Seconds of each step on rank 0, by method.

    Raises:
        ValueError: if the ranks fail; the message ends with their error output.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "steps.json"
        arguments = json.dumps(
            {
                "model": model,
                "batch": batch,
                "rounds": rounds,
                "device": device,
                "file": str(file),
            }
        )
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc_per_node={ranks}",
                "-m",
                "benchmarks.perf.rank_steps",
                arguments,
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            raise ValueError(f"--ranks {ranks}: the ranks failed: {done.stderr[-2000:]}")
        seconds: dict[str, list[float]] = json.loads(file.read_text(encoding="utf-8"))
    return seconds


def main(given: dict[str, Any]) -> None:
    """Run one rank; rank 0 writes the seconds of the steps.

    Args:
        given: ``model``, ``batch``, ``rounds``, ``device`` and ``file``.
    """
    with process_group(given["device"]) as device:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        bench = Bench(Setting(given["model"], given["batch"], device=str(device)))
        arms = [arm_of(name) for name in _ARMS]
        with bench.started(arms, DistributedTraining) as (steppers, _):
            take_turns(steppers, bench.warm_up, 0, "warm-up")
            torch.distributed.barrier()
            steps = take_turns(steppers, given["rounds"], 0)
            torch.distributed.barrier()  # an early end of one rank would break another's step
        if torch.distributed.get_rank() == 0:
            seconds = {name: [step.seconds for step in each] for name, each in steps.items()}
            Path(given["file"]).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
