"""Passes over data sets copy their features once, and do not wait for an accelerator."""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Subset, TensorDataset

from avalanche_proxyfda import class_prototypes
from avalanche_proxyfda.features import passes, prototypes
from avalanche_proxyfda.features.passes import (
    BatchesInTurn,
    all_batches,
    feature_batches,
    on_host,
    sent,
)
from avalanche_proxyfda.metrics import panel

GPU, CPU = torch.device("cuda"), torch.device("cpu")


class Copies(TorchDispatchMode):
    """Counts copies from an accelerator to the CPU."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") == CPU:
            self.count += args[0].device != CPU
        return func(*args, **kwargs)


@pytest.mark.parametrize(("rows_of_a_block", "copies"), [(1000, 1), (6, 4), (1, 8)])
def test_features_are_copied_in_blocks(
    rows_of_a_block: int, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "BLOCK", 4 * 5 * rows_of_a_block)
    rows = torch.randn(23, 5)
    assert torch.equal(on_host(iter(rows.split(3))), rows)
    with FakeTensorMode(), Copies() as counted:
        joined = on_host(torch.zeros(23, 5, device=GPU).split(3))
        assert joined.shape == (23, 5) and joined.device == CPU
    assert counted.count == copies


DRIVER = pytest.mark.skipif(
    torch.__version__ < (2, 11), reason="torch 2.6 wants a driver for fake tensors"
)


@DRIVER
def test_a_panels_pass_waits_for_nothing() -> None:
    with FakeTensorMode(), Copies() as counted:
        batches = [(torch.zeros(4, 3), torch.zeros(4)) for _ in range(5)]
        labels: list[Tensor] = []
        rows = on_host(panel._features(batches, lambda images: images.half() * 2, GPU, labels))
        assert rows.shape == (20, 3) and rows.dtype == torch.float32
        assert len(labels) == 5 and labels[0].dtype == torch.int64
    assert counted.count == 1


@DRIVER
def test_prototypes_wait_for_no_batch() -> None:
    with FakeTensorMode(), Copies() as counted:
        class_of = torch.zeros(6, dtype=torch.int64, device=GPU)
        batches = (torch.zeros(2, 4, device=GPU) for _ in range(3))
        sums = prototypes._class_sums(batches, class_of, 3)
        assert sums is not None and sums.device.type == "cuda" and sums.shape == (3, 4)
        with pytest.raises(DataDependentOutputException):  # so the mode sees a wait
            bool(sums.isfinite().all())
    assert counted.count == 0


def test_batches_for_an_accelerator_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def loader(dataset: Any, pin_memory: bool, **_: Any) -> list[Any]:
        asked.append(pin_memory)
        return []

    monkeypatch.setattr(passes, "DataLoader", loader)
    monkeypatch.setattr(passes, "pins_memory", lambda device: device == CPU)
    assert list(all_batches(TensorDataset(torch.zeros(2)), CPU)) == []
    monkeypatch.undo()
    monkeypatch.setattr(passes, "DataLoader", loader)
    assert list(all_batches(TensorDataset(torch.zeros(2)), CPU)) == []
    assert asked == [True, False]


def test_batches_of_several_sets_are_those_of_each_and_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sets = [TensorDataset(torch.arange(n)) for n in (5, 2, 0, 3)]
    twice = Subset(sets[3], [2, 0])  # asked for all samples of a batch at once
    asked: list[list[int]] = []
    monkeypatch.setattr(
        Subset, "__getitems__", lambda self, rows: asked.append(rows) or [self[r] for r in rows]
    )

    def backwards(items: list[Any]) -> list[int]:
        return [int(rows[0]) for rows in reversed(items)]

    given: list[Any] = [*((data, None) for data in sets[:3]), (sets[3], backwards), (twice, None)]
    batches = BatchesInTurn(given, batch_size=2)
    found = [list(b) if isinstance(b[0], int) else b[0].tolist() for b in batches.loader(CPU, "t")]
    assert found == [[0, 1], [2, 3], [4], [0, 1], [1, 0], [2], [2, 0]]
    assert [number for number, _ in batches.places] == [0, 0, 0, 1, 3, 3, 4] and asked == [[0, 1]]
    assert not batches.loader(CPU, "t").pin_memory
    monkeypatch.setattr(passes, "pins_memory", lambda device: device == GPU)
    assert batches.loader(GPU, "t").pin_memory


@pytest.mark.parametrize("about", ["bank", "prototypes"])
def test_random_views_depend_on_the_pass_alone(about: str) -> None:
    class Noise(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            return torch.rand(2), torch.tensor(random.random()), torch.tensor(np.random.rand())  # noqa: NPY002

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        batches = list(all_batches(Noise(torch.zeros(3)), CPU, about=about))
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.manual_seed(seed)))
        return torch.cat([part.double().flatten() for batch in batches for part in batch])

    assert torch.equal(drawn(1), drawn(2)) and len(drawn(1).unique()) == 12


@pytest.mark.parametrize("kind", ["batches", "features"])
def test_a_pass_that_its_caller_leaves_half_done_changes_nothing(kind: str) -> None:
    """The generator is alive here: an error's traceback keeps it so in a notebook."""
    data, recorded = TensorDataset(torch.zeros(5, 2)), []

    def features(images: Tensor) -> Tensor:
        recorded.append(torch.is_grad_enabled())
        return images + torch.rand(1)

    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    if kind == "batches":
        batches: Any = all_batches(data, CPU, batch_size=2)
    else:
        batches = feature_batches(data, features, CPU, batch_size=2)
    for _ in range(2):
        next(batches)
        assert torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), state[0])
        assert random.getstate() == state[1]
        assert (np.random.get_state()[1] == state[2]).all()  # noqa: NPY002
    assert recorded == ([] if kind == "batches" else [False, False])
    with torch.no_grad():
        batches.close()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("pinned", [True, False])
def test_pinned_images_are_sent_without_waiting(
    pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = []
    monkeypatch.setattr(Tensor, "is_pinned", lambda self: pinned)
    monkeypatch.setattr(Tensor, "to", lambda self, device, non_blocking: how.append(non_blocking))
    sent(torch.zeros(1), CPU)
    assert how == [pinned]


def test_a_pass_that_fails_restores_gradient_and_streams_at_once() -> None:
    def broken(images: Tensor) -> Tensor:
        raise LookupError

    def misshapen(images: Tensor) -> Tensor:
        return images[:, :, None]

    data, state = TensorDataset(torch.eye(3)), torch.get_rng_state()
    try:
        for features, error in ((broken, LookupError), (misshapen, ValueError)):
            with pytest.raises(error) as caught:  # its traceback keeps the frames of the pass
                class_prototypes(data, [0, 1, 2], features, CPU, batch_size=1)
            assert torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), state)
            del caught
            gc.collect()
            assert torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
