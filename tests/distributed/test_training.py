"""Two and three ranks against one process: losses, gradients, weights, metrics."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.distributed.pool import Pool
from tests.distributed.work import METHODS, learn


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Nested results agree, keys and lengths included."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key], tolerance)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            close(a, b, tolerance)
    else:
        torch.testing.assert_close(
            torch.as_tensor(found), torch.as_tensor(expected), rtol=tolerance, atol=tolerance
        )


def alike(ranks: list[dict[str, Any]], single: dict[str, Any], tolerance: float = 1e-9) -> None:
    """Every rank has what the single process has, and all ranks have the same weights."""
    for rank in ranks:
        for name in ("losses", "gradients", "weights", "own", "metrics"):
            exact = name in ("gradients", "weights")  # Avalanche keeps losses in float32
            close(rank[name], single[name], tolerance if exact else 1e-5)
        for name, value in rank["weights"].items():
            assert torch.equal(value, ranks[0]["weights"][name]), name
        for name, value in rank["own"].items():
            assert torch.equal(value, ranks[0]["own"][name]), name


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_learn_what_one_process_learns(pool: Pool, method: str) -> None:
    single = learn(method, plain=True)
    assert len(single["losses"]) == 2 * 2 * 3 and single["weights"]
    alike(pool.run(learn, method), single)
