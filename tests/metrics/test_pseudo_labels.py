"""Clusters inside classes against plain loops, and what must not change them."""

from __future__ import annotations

import pytest
import torch

from avalanche_proxyfda.metrics import otdd
from avalanche_proxyfda.metrics.pseudo_labels import pseudo_labels
from tests.metrics.test_drift import labelled, rotation
from tests.reference import drift as judge


def test_pseudo_labels_equal_the_loops_and_stay_inside_classes() -> None:
    pytest.importorskip("scipy")
    rows, labels = labelled(60, 3)
    for most in (1, 2, 4, 7, 19, 20, 50):
        found = pseudo_labels(rows, labels * 5 - 3, most)
        wanted = judge.clusters(rows.numpy(), labels.tolist(), most)
        pairs = {(k, place) for k, place in zip(found.tolist(), wanted, strict=True)}
        assert len(pairs) == len(set(found.tolist())) == len(set(wanted)) == 3 * min(most, 20)
        assert sorted(set(found.tolist())) == list(range(len(pairs)))


def test_blobs_come_out_as_clusters_in_any_order_and_any_pose() -> None:
    pytest.importorskip("scipy")
    source = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(8, 6, generator=source, dtype=torch.float64)
    blob = torch.arange(8).repeat_interleave(5)
    rows = centres[blob] + 0.1 * torch.randn(40, 6, generator=source, dtype=torch.float64)
    labels = blob % 2  # four blobs in each class
    before = torch.random.get_rng_state()
    for turn in (torch.eye(6, dtype=torch.float64), rotation(6)):
        order = torch.randperm(40, generator=source)
        found = pseudo_labels((rows @ turn)[order], labels[order], 4)
        assert len(set(zip(found.tolist(), blob[order].tolist(), strict=True))) == 8
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_class_with_few_distinct_samples_gets_fewer_clusters() -> None:
    pytest.importorskip("ot")
    rows = torch.eye(5, dtype=torch.float64)[[0, 1, 0, 2, 3, 3, 4, 4, 4]]
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])
    found = pseudo_labels(rows, labels, 3)
    assert found[0] == found[2] and len(set(found[:4].tolist())) == 3
    assert set(found[4:6].tolist()) == {3} and set(found[6:].tolist()) == {4}
    assert otdd(rows, labels, rows, labels) == pytest.approx(0, abs=1e-6)
    moved = torch.eye(5, dtype=torch.float64)[[0, 1, 1, 2, 3, 3, 4, 4, 4]]
    assert otdd(rows, labels, moved, labels) > 0.1
