"""The second device itself: it computes as the CPU, and refuses what an accelerator refuses."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from avalanche_proxyfda import _accelerator as accelerator
from tests.second_device import device as counts


def test_it_is_found_by_auto_and_has_a_name_and_memory(second: torch.device) -> None:
    assert accelerator.best_device().type == second.type
    assert accelerator.device_count(second) == 1 and accelerator.is_available(second)
    assert accelerator.device_name(second) == "Second device"
    assert accelerator.total_memory(second) == counts.TOTAL
    assert 0 < (accelerator.free_memory(second) or 0) < counts.TOTAL
    assert accelerator.pins_memory(second)
    assert accelerator.pins_memory(torch.device("cpu")) is False


def test_devices_do_not_mix(second: torch.device) -> None:
    here, there = torch.ones(3), torch.ones(3, device=second)
    for mix in (lambda: here + there, lambda: there @ here, lambda: torch.cat([there, here])):
        with pytest.raises(RuntimeError, match=r"mixes tensors of the device|on the same device"):
            mix()
    assert torch.equal((there + torch.tensor(2.0)).cpu(), here + 2)  # a number
    with pytest.raises(RuntimeError, match="mixes tensors"):
        torch.stack([there[0], torch.tensor(2.0)])
    with pytest.raises(RuntimeError, match="a convolution mixes devices"):
        nn.functional.conv2d(torch.ones(1, 1, 2, 2, device=second), torch.ones(1, 1, 1, 1))


def test_operations_are_counted_and_views_are_not(second: torch.device) -> None:
    rows = torch.ones(4, 6, device=second)
    counts.reset()
    view = rows.view(6, 4).t()[1:].unsqueeze(0).expand(2, -1, -1)
    assert not counts.operations()
    (view + 1).mul_(2)
    assert sum(counts.operations().values()) == 2
    assert not counts.waits()


def test_the_points_where_the_host_waits_are_counted(second: torch.device) -> None:
    rows = torch.arange(4.0, device=second)
    for wait in (
        lambda: rows.sum().item(),
        lambda: bool(rows[0] > 1),
        lambda: rows.cpu(),
        lambda: torch.ones(2).to(second),
        lambda: torch.ones(2).pin_memory().to(second),
        lambda: torch.tensor([1, 2], device=second),
        lambda: rows.nonzero(),
        lambda: rows[rows > 1],
        lambda: rows[torch.tensor([0, 1])],
        lambda: accelerator.synchronize(second),
    ):
        counts.reset()
        wait()
        assert sum(counts.waits().values()) >= 1
        with counts.waits_refused(), pytest.raises(RuntimeError, match="the host waits"):
            wait()
    counts.reset()
    torch.ones(2).pin_memory().to(second, non_blocking=True)
    rows.index_select(0, torch.zeros(2, dtype=torch.long, device=second))
    torch.where(rows > 1, rows, 0.0).sum()
    assert not counts.waits()


def test_it_has_a_random_stream_of_its_own(second: torch.device) -> None:
    here, state = torch.get_rng_state(), accelerator.random_state(second)
    assert state is not None
    drop = nn.Dropout()
    first = torch.randn(5, device=second), drop(torch.ones(50, device=second))
    assert torch.equal(torch.get_rng_state(), here)
    accelerator.set_random_state(state, second)
    again = torch.randn(5, device=second), drop(torch.ones(50, device=second))
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(first, again, strict=True))
    assert not torch.equal(torch.randn(5, device=second).cpu(), first[0].cpu())
    with pytest.raises(RuntimeError, match="got a generator of cpu"):
        torch.randn(5, device=second, generator=torch.Generator())
    drawn = [
        torch.rand(3, device=second, generator=torch.Generator(second).manual_seed(7)).cpu()
        for _ in range(2)
    ]
    assert torch.equal(*drawn)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(36, 3)
        )


def test_a_step_has_the_numbers_of_the_cpu(second: torch.device) -> None:
    images, labels = torch.randn(5, 1, 4, 4), torch.arange(5) % 3
    results = []
    for place in ("cpu", second):
        model = network().to(place)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images.to(place)), labels.to(place)).backward()
            optimizer.step()
        results.append({name: value.cpu() for name, value in model.state_dict().items()})
    assert int(results[1]["1.num_batches_tracked"]) == 3
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-5, atol=1e-6)


def test_copies_and_files_hold_the_same_numbers(second: torch.device) -> None:
    model = network().to(second)
    twin = copy.deepcopy(model)
    model[4].weight.data.zero_()
    assert twin[4].weight.device == second and float(twin[4].weight.detach().abs().sum()) > 0
    file = io.BytesIO()
    torch.save(twin.state_dict(), file)
    file.seek(0)
    model.load_state_dict(torch.load(file, map_location="cpu"))
    assert torch.equal(model[4].weight.cpu(), twin[4].weight.cpu())
    held = torch.empty(0, device=second)
    torch.add(twin[4].bias.detach(), 1, out=held)
    assert torch.equal(held.cpu(), twin[4].bias.detach().cpu() + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_autocast_lowers_products_and_keeps_losses(
    dtype: torch.dtype, second: torch.device
) -> None:
    model = network().to(second)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler(second.type, enabled=dtype == torch.float16)
    before = model[4].weight.detach().clone()
    with torch.autocast(second.type, dtype=dtype):
        logits = model(torch.randn(5, 1, 4, 4).to(second))
        loss = nn.functional.cross_entropy(logits, torch.arange(5).to(second) % 3)
        with torch.autocast(second.type, enabled=False):
            assert (before @ before.mT).dtype == torch.float32
    assert logits.dtype == dtype and loss.dtype == torch.float32
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert bool(model[4].weight.isfinite().all()) and not torch.equal(model[4].weight, before)
