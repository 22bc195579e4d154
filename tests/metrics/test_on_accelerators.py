"""The path of accelerators against the path of the CPU, and that it never waits for the device.

torch's fake tensors say that they are on a CUDA device, without one. They refuse operations on
two devices, and every operation that would wait for a value.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.testing import assert_close

from avalanche_proxyfda._float64 import float64_device, rows_at_once
from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.features import linear_probe
from avalanche_proxyfda.features.linear_probe import Probe, fit_probe, select_probe
from avalanche_proxyfda.features.probe_loss import PartsProbeLoss, WholeProbeLoss
from avalanche_proxyfda.metrics import drift_in_parts, linear_cka, mean_l2, nearest
from avalanche_proxyfda.metrics.drift import count_shared
from avalanche_proxyfda.metrics.drift_in_parts import alignment_in_parts, distance_in_parts
from avalanche_proxyfda.metrics.knn import count_hits
from avalanche_proxyfda.metrics.panel import PanelFeatures, Split

EXACT = {"rtol": 1e-11, "atol": 1e-12}  # rounding in float64


def rows(count: int, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def fake(*shape: int, labels: bool = False) -> Tensor:
    dtype = torch.int64 if labels else torch.float32
    return torch.zeros(shape, dtype=dtype, device="cuda")


def _loss(workspace: int, normalize: bool) -> list[Tensor]:
    made = PartsProbeLoss(
        fake(3000, 8), fake(3000, labels=True), 3, 1e-3, normalize, workspace=workspace
    )
    weight = fake(3, 8).double()
    return list(made(weight, weight[:, 0]))


def _hits() -> Tensor:
    train = fake(3000, 8), fake(3000, labels=True)
    return count_hits(train, train, 3, 5, 0.07)


@pytest.mark.skipif(torch.__version__ < (2, 11), reason="torch 2.6 wants a driver for fake tensors")
@pytest.mark.parametrize(
    "work",
    [
        _hits,
        lambda: count_shared(fake(3000, 8), fake(3000, 9), 5),
        lambda: distance_in_parts(fake(3000, 8), fake(3000, 8)),
        lambda: alignment_in_parts(fake(3000, 8), fake(3000, 9)),
        lambda: _loss(2**28, True)[0],
        lambda: _loss(2**14, True)[1],  # many parts
        lambda: _loss(2**14, False)[2],
        lambda: Probe(fake(3, 8).double(), fake(3).double(), 1e-3).hits(
            fake(3000, 8), fake(3000, labels=True)
        ),
    ],
)
def test_nothing_waits_and_no_devices_are_mixed(work: Callable[[], Tensor]) -> None:
    with FakeTensorMode():
        value = work()
        assert value.device.type == "cuda" and value.dtype in (torch.float64, torch.int64)
        with pytest.raises(DataDependentOutputException):  # so the mode sees a wait
            float(value.sum())


def test_distances_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = rows(50), rows(50, seed=1) * 100
    for size in (50, 7):
        monkeypatch.setattr(drift_in_parts, "rows_at_once", lambda _, size=size: size)
        assert float(distance_in_parts(before, after)) == pytest.approx(mean_l2(before, after))
        for other in (after, rows(50, 9, seed=2) - 3):
            value = float(alignment_in_parts(before, other))
            assert value == pytest.approx(linear_cka(before, other), rel=1e-11)
        huge = before.double() * 1e150
        assert float(alignment_in_parts(huge, huge)) == pytest.approx(1)
        same = torch.tensor([[0.1, -0.7, 0.3]]).repeat(50, 1)
        assert bool(alignment_in_parts(same, before).isnan())


def test_the_nearest_columns_and_ties() -> None:
    cosines = torch.randint(0, 4, (40, 30), generator=torch.Generator().manual_seed(0)) / 8
    for count in (1, 5, 30):
        places = nearest.first_nearest(cosines, count)[1]
        for row, found in zip(cosines.tolist(), places.tolist(), strict=True):
            assert found == sorted(range(30), key=lambda k: (-row[k], k))[:count]
        marks = nearest.mark_first(cosines, count)
        assert torch.equal(marks, torch.zeros_like(marks).scatter_(1, places, True))
    free = rows(20, 30).double()  # without ties the rule is torch's
    assert torch.equal(nearest.mark_first(free, 4), nearest.mark_nearest(free, 4))
    for ours, theirs in zip(nearest.first_nearest(free, 4), nearest.nearest(free, 4), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("most", [1, 7, 49, 50, 60])
def test_cosines_in_parts(most: int) -> None:
    columns = rows(50)
    columns[[11, 30, 48]] = columns[3].clone()  # images that come again, in other parts
    queries = unit_rows(rows(8, seed=1).double())
    cosines = nearest.cosines_in_parts(queries, columns, most)
    assert_close(cosines, queries @ unit_rows(columns.double()).T, **EXACT)
    assert all(torch.equal(cosines[:, 3], cosines[:, k]) for k in (11, 30, 48))


@pytest.mark.parametrize("most", [100, 23])
def test_blocks_of_cosines_are_those_of_the_cpu(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, columns = rows(40), rows(50, seed=1)
    monkeypatch.setattr(nearest, "rows_at_once", lambda *_: most)
    side = nearest.Cosines(queries.to("meta"), columns.to("meta"))  # as on an accelerator
    assert side.block(32, 16).shape == (8, 50)
    assert (side._unit_columns is None) == (most < 50)
    for first, second in ((queries, columns), (columns, columns)):
        expected = unit_rows(first.double()) @ unit_rows(second.double()).T
        side = nearest.Cosines(first, second)
        assert torch.equal(side.block(0, len(first)), expected)  # to the bit
        monkeypatch.setattr(side, "_unit_columns", None)  # as on an accelerator
        monkeypatch.setattr(side, "_unit_queries", None)
        blocks = [side.block(start, 16) for start in range(0, len(first), 16)]
        assert_close(torch.cat(blocks), expected, **EXACT)


def test_a_part_fits_into_the_workspace() -> None:
    gpu = torch.device("cuda")
    assert nearest.queries_at_once(gpu, 5000, 768) == nearest.QUERIES
    assert 48 * 10**6 * nearest.queries_at_once(gpu, 10**6, 8) <= 2**28
    assert 24 * 10**6 * nearest.queries_at_once(gpu, 8, 10**6) <= 2**28
    assert nearest.queries_at_once(torch.device("cpu"), 10**6, 8) == nearest.QUERIES
    assert rows_at_once(2**40) == 1


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_of_a_probe_in_parts(normalize: bool) -> None:
    features, labels = rows(90) + 2, torch.arange(90) % 4
    weight, bias = rows(4, seed=3).double(), rows(4, seed=4).double()[:, 0]
    whole = WholeProbeLoss(features, labels, 4, 1e-2, normalize)
    for workspace in (2**28, 8 * 4 * 10 * 7):  # 1 part, and 13
        parts = PartsProbeLoss(features, labels, 4, 1e-2, normalize, workspace)
        for ours, theirs in zip(parts(weight, bias), whole(weight, bias), strict=True):
            assert_close(ours, theirs, **EXACT)
        assert float(parts.scale) == pytest.approx(float(whole.scale), rel=1e-14)
    zero = PartsProbeLoss(torch.zeros(2, 3), labels[:2], 2, 1e-2, normalize)
    assert float(zero.scale) == 1


@pytest.mark.parametrize("normalize", [True, False])
def test_the_probe_of_an_accelerator_is_that_of_the_cpu(
    normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = torch.arange(200) % 4
    train = rows(200, 8) + 1.5 * torch.eye(8)[labels], labels
    test = rows(400, 8, seed=1) + 1.5 * torch.eye(8)[torch.arange(400) % 4], torch.arange(400) % 4
    whole = select_probe(train, test, 4, normalize=normalize)
    monkeypatch.setattr(linear_probe, "WholeProbeLoss", PartsProbeLoss)
    parts = select_probe(train, test, 4, normalize=normalize)
    assert parts.l2 == whole.l2
    assert_close(parts.logits(test[0]), whole.logits(test[0]), rtol=0, atol=1e-3)
    right = int(parts.hits(*test))
    assert parts.accuracy(*test) == right / 400 == whole.accuracy(*test)
    flat = fit_probe(*train, 4, 1e-3, normalize=normalize, bias=False)
    assert (flat.bias == 0).all() and flat.accuracy(*train) > 0.7


def test_the_cpu_takes_what_a_device_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def broken(*_: object, **__: object) -> Tensor:
        raise RuntimeError("out of memory")

    device = torch.device("meta")
    assert float64_device.__wrapped__(device) == device
    monkeypatch.setattr(torch, "zeros", without)
    assert float64_device.__wrapped__(device) == torch.device("cpu")
    monkeypatch.setattr(torch, "zeros", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        float64_device.__wrapped__(device)


def test_features_of_a_set_are_placed_on_their_device() -> None:
    splits: dict[Split, tuple[Tensor, Tensor]] = {
        "train": (rows(6), torch.arange(6) % 2),
        "test": (rows(4), torch.arange(4) % 2),
    }
    at_home = PanelFeatures("a", splits)
    assert at_home.placed() is at_home
    away = PanelFeatures("a", splits, torch.device("meta")).placed()
    assert all(x.is_meta and y.is_meta for x, y in away.splits.values())
    assert {s: x.shape for s, (x, _) in away.splits.items()} == {"train": (6, 6), "test": (4, 6)}
    assert not splits["test"][0].is_meta
