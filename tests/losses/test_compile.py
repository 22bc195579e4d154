"""Every loss as one graph of torch.compile: the values, gradients and warnings of the plain one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.losses import FDALoss
from tests.losses.common import LOSSES, features, loss_on_rows
from tests.methods import toy_loss


@pytest.fixture(autouse=True)
def _from_the_start() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def built(name: str) -> nn.Module:
    """Return a loss on features [13, 12]; LDIFS takes 3 tokens, and a map of 2 x 2."""
    return loss_on_rows(name, 12, 13, tokens=3, side=2)


def results(
    loss: Any, learned: list[Tensor], batch: int, dtype: torch.dtype, autocast: bool = False
) -> list[Tensor]:
    """Value and gradients of a batch."""
    student, teacher = features(batch, 12, batch, dtype), features(batch, 12, 99, dtype)
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        made = loss(student, teacher)
    terms = [made] if isinstance(made, Tensor) else list(made)
    gradients = torch.autograd.grad(sum(terms), [student, *learned], allow_unused=True)
    return [*terms, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("name", LOSSES)
def test_no_graph_break_and_the_plain_results(name: str) -> None:
    if name == "rkd" and torch.__version__ < (2, 11):
        pytest.skip("torch 2.6 compiles RKD for one size alone")
    loss = built(name).double()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    learned = list(loss.parameters())
    # another size compiles anew, for any size; for Proxy-FDA that takes long, so once is enough
    for batch in (13,) if name in ("proxy-fda-chunks", "proxy-fda-detached") else (13, 9):
        ours = results(compiled, learned, batch, torch.float64)
        torch.testing.assert_close(ours, results(loss, learned, batch, torch.float64))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("name", ["fda-chunks", "proxy-fda-chunks", "ldifs", "lwf"])
def test_graphs_that_autograd_was_traced_into(name: str) -> None:
    loss = built(name).double()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    learned = list(loss.parameters())
    expected = results(loss, learned, 13, torch.float64)
    torch.testing.assert_close(results(compiled, learned, 13, torch.float64), expected)


@pytest.mark.parametrize("name", ["fda", "proxy-fda"])
def test_half_precision_and_autocast_under_compile(name: str) -> None:
    loss = built(name)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    learned = list(loss.parameters())
    ours = results(compiled, learned, 13, torch.bfloat16, autocast=True)
    torch.testing.assert_close(ours, results(loss, learned, 13, torch.bfloat16))
    assert ours[0].dtype == torch.float32


def test_warnings_are_said_once_and_break_no_graph() -> None:
    loss = toy_loss("proxy-fda", 12, 9, num_neighbors=16, max_proxies=2).double()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    student, teacher = features(9, 12), features(9, 12, seed=1)
    with (
        pytest.warns(UserWarning, match="num_neighbors=16 is clamped to 8 in a batch of 9"),
        pytest.warns(UserWarning, match="max_proxies=2 caps the 3 proxies"),
    ):
        compiled(student, teacher)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # torch has warnings of other categories
        compiled(student, teacher)


def test_bad_batches_are_refused_under_compile() -> None:
    compiled = torch.compile(FDALoss(2), backend="eager")
    with pytest.raises(Exception, match="student has 5 rows, teacher has 6"):
        compiled(features(5, 4), features(6, 4))
