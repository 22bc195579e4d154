"""Interpolation of state dicts, at the ends and between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.weights import interpolate, interpolation_path


def pair() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        for _ in range(3 + seed):
            model(torch.randn(8, 3))
        made.append({k: v.clone() for k, v in model.state_dict().items()})
    return made[0], made[1]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_ends_are_exact_and_new_tensors() -> None:
    anchor, tuned = pair()
    for alpha, end in ((0, anchor), (1, tuned)):
        made = interpolate(anchor, tuned, alpha)
        assert same(made, end)
        assert all(made[k].data_ptr() != end[k].data_ptr() for k in made)


def test_between_each_number_is_the_weighted_mean() -> None:
    anchor, tuned = pair()
    made = interpolate(anchor, tuned, 0.3)
    for name, value in made.items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 4  # there is no 3.7th batch
            continue
        numbers = zip(anchor[name].flatten(), tuned[name].flatten(), value.flatten(), strict=True)
        for a, b, found in numbers:
            assert float(found) == pytest.approx(0.7 * float(a) + 0.3 * float(b), abs=1e-6)


def test_masks_with_infinite_entries_stay() -> None:
    mask = {"mask": torch.full((2, 2), -torch.inf).triu(1)}
    for alpha in (0, 0.4, 1):
        assert same(interpolate(mask, mask, alpha), mask)


def test_one_infinite_end() -> None:
    start, end = torch.tensor([1.0, -torch.inf]), torch.tensor([torch.inf, 1.0])
    assert interpolate({"x": start}, {"x": end}, 0.4)["x"].tolist() == [torch.inf, -torch.inf]


def test_a_path_makes_one_state_at_a_time() -> None:
    anchor, tuned = pair()
    path = list(interpolation_path(anchor, tuned, (0, 0.5, 1)))
    assert [alpha for alpha, _ in path] == [0, 0.5, 1]
    assert same(path[0][1], anchor) and same(path[2][1], tuned)
    assert same(path[1][1], interpolate(anchor, tuned, 0.5))


def test_bad_input() -> None:
    anchor, tuned = pair()
    with pytest.raises(ValueError, match=r"alpha=1.5 must lie in \[0, 1\]"):
        interpolate(anchor, tuned, 1.5)
    with pytest.raises(ValueError, match=r"alpha=-0\.1"):
        interpolation_path(anchor, tuned, (0, -0.1))  # before the first is made
    with pytest.raises(ValueError, match=r"0.weight: \(3, 3\) and \(4, 3\)"):
        interpolate({**anchor, "0.weight": torch.ones(3, 3)}, tuned, 0.5)
    del anchor["0.bias"]
    with pytest.raises(ValueError, match=r"only one of the state dicts has: 0.bias"):
        interpolate(anchor, tuned, 0.5)
