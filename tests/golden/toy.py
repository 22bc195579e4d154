"""The toy run of a method: two experiences with different classes, in float64 on the CPU."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import nn

from avalanche_proxyfda import LPFTPlugin
from benchmarks.experiment.training import KeptInEval
from benchmarks.methods.registry import METHODS
from tests.methods import accepted, toy_plugin
from tests.plugins.toys import classic, strategy

OPTIONS: Mapping[str, Any] = {
    "num_neighbors": 3,
    "taps": ("tower.norm", "tower.flat", "tower"),
    "teacher_cache": "off",
}
"""Options for this model and its batches; a plugin gets those that its signature has."""
EXPERIENCES, EPOCHS, SAMPLES, BATCH = 2, 3, 48, 8
STEPS = EPOCHS * SAMPLES // EXPERIENCES // BATCH
"""Steps of an experience: DiGraP learns its strength from the third step on."""


@dataclass(frozen=True)
class Numbers:
    """The numbers of one run.

    Attributes:
        losses: the strategy's loss at every step, the terms of the plugins included.
        norm: Euclidean norm of all weights and buffers after the last experience.
    """

    losses: tuple[float, ...]
    norm: float


class LossRecorder(SupervisedPlugin[Any]):
    """Records the strategy's loss at every step, after all plugins have added their terms."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.losses.append(float(strategy.loss.detach()))


@contextmanager
def one_thread_in_float64(seed: int) -> Iterator[None]:
    """Take one thread, float64 as the default type and a seed; restore all at the end.

    Avalanche adds the criterion to a zero of the default type in place. A float64 model
    alone would therefore give losses that are rounded to float32. Tensors this small gain
    nothing from a second thread.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


def toy_model() -> nn.Sequential:
    """Maps 1 x 4 x 4 images to 6 logits; 8 features enter ``head``.

    The convolution has no bias. Its gradient before batch normalisation would be rounding
    error alone, which AdamW scales up to a whole step.
    """
    tower = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(1, 5, 2, bias=False),
        norm=nn.BatchNorm2d(5),
        act=nn.GELU(),
        flat=nn.Flatten(),
        out=nn.Linear(45, 8),
    )
    layers = OrderedDict[str, nn.Module](tower=nn.Sequential(tower), head=nn.Linear(8, 6))
    return nn.Sequential(layers)


def plugins_of(method: str, factor: float = 1.0) -> list[Any]:
    """Plugins of a run of ``method``, in the order of the benchmarks.

    A linear probe fits the head first, unless the method's settings ask for a random head.

    Args:
        method: name in the registry.
        factor: multiplies the method's usual strength.
    """
    known = METHODS[method]
    still = [] if known.trains_tower else [KeptInEval(all_of_it=True)]
    head = known.settings.get("head", {}).get("kind", "probe")
    probe = [*still, *([LPFTPlugin(l2=0.01, refit=False)] if head == "probe" else [])]
    if known.strength is None:
        return probe
    strength = known.strength * factor
    given = {"strength": strength, "reference": known.settings.get("reference", "previous")}
    return [*probe, toy_plugin(method, **given, **accepted(method, **OPTIONS))]


def toy_run(method: str, factor: float = 1.0) -> Numbers:
    """Train the toy model by ``method``; ``factor`` multiplies its usual strength."""
    with one_thread_in_float64(seed=0):
        model, recorder = toy_model(), LossRecorder()
        model.tower.requires_grad_(METHODS[method].trains_tower)
        plugins = [*plugins_of(method, factor), recorder]
        trained = strategy(model, *plugins, adam=True, train_mb_size=BATCH, train_epochs=EPOCHS)
        for experience in classic(EXPERIENCES, count=SAMPLES).train_stream:
            trained.train(experience, eval_streams=[], shuffle=False)
        state = [v.flatten() for v in model.state_dict().values() if v.is_floating_point()]
        return Numbers(tuple(recorder.losses), float(torch.cat(state).norm()))
