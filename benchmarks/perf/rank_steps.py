"""Steps of a training on several ranks: ``on_ranks`` starts torchrun, which runs this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_ARMS = ("finetune", "proxy-fda")


def on_ranks(ranks: int, model: str, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step by method, on rank 0, of ``ranks`` processes that share each batch.

    Args:
        ranks: processes, with one thread each on the CPU.
        model: as in :class:`benchmarks.perf.arms.Setting`.
        batch: B, of all ranks together.
        rounds: steps of each method.

    Raises:
        ValueError: when the ranks fail; what they wrote is part of the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "steps.json"
        given = json.dumps({"model": model, "batch": batch, "rounds": rounds, "file": str(file)})
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone",
             f"--nproc_per_node={ranks}", "-m", "benchmarks.perf.rank_steps", given],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(f"--ranks {ranks}: the ranks failed: {done.stderr[-2000:]}")
        found: dict[str, list[float]] = json.loads(file.read_text())
    return found


def main(given: dict[str, Any]) -> None:
    """One rank's part; rank 0 writes the steps."""
    import torch

    from avalanche_proxyfda.distributed import DistributedTraining, process_group
    from benchmarks.perf.arms import Bench, Setting, arm_of
    from benchmarks.perf.stepping import take_turns

    with process_group() as device:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        bench = Bench(Setting(given["model"], given["batch"], device=str(device)))
        arms = [arm_of(name) for name in _ARMS]
        with bench.started(arms, DistributedTraining) as (steppers, _):
            take_turns(steppers, bench.warm_up, 0, "warm-up")
            torch.distributed.barrier()
            steps = take_turns(steppers, given["rounds"], 0)
            torch.distributed.barrier()  # a rank that ends early would break the other's step
        if torch.distributed.get_rank() == 0:
            seconds = {name: [step.seconds for step in made] for name, made in steps.items()}
            Path(given["file"]).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
