"""Accelerators on a machine without one, and torch's two settings of TF32."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avalanche_proxyfda import _accelerator as accelerator
from avalanche_proxyfda.teacher.cache.key import kernels_key
from benchmarks.config import Config
from benchmarks.experiment.provenance import provenance

CPU = torch.device("cpu")


@pytest.mark.parametrize("there", [("xpu", "mps"), ("mps",), ("cuda", "mps"), ()])
def test_auto_takes_the_first_accelerator(
    there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("cuda", "xpu"):
        monkeypatch.setattr(f"torch.{kind}.is_available", lambda kind=kind: kind in there)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: "mps" in there)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: None)
    assert accelerator.best_device() == torch.device(there[0] if there else "cpu")


def test_mps_answers_without_a_number_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPS has functions of other names, and none of them takes a device."""
    calls: list[Any] = []
    state = torch.arange(3, dtype=torch.uint8)
    module = SimpleNamespace(
        recommended_max_memory=lambda: 100,
        driver_allocated_memory=lambda: 40,
        current_allocated_memory=lambda: 30,
        synchronize=lambda: calls.append("synchronize"),
        get_rng_state=lambda: state,
        set_rng_state=calls.append,
    )
    monkeypatch.setattr("torch.mps", module)
    device = torch.device("mps")
    memory = (accelerator.total_memory, accelerator.free_memory, accelerator.allocated_memory)
    assert [ask(device) for ask in memory] == [100, 60, 30]
    assert accelerator.peak_memory(device) is None and accelerator.device_name(device) == "mps"
    accelerator.reset_peak_memory(device)
    accelerator.choose_device(device)
    accelerator.synchronize(device)
    accelerator.set_random_state(accelerator.random_state(device), device)
    assert calls[0] == "synchronize" and calls[1] is state
    assert not accelerator.pins_memory(device) and not accelerator.has_events(device)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_memory_that_torch_keeps_for_new_tensors_is_free(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(
        mem_get_info=lambda device: (10, 100),
        memory_reserved=lambda device: 70,
        memory_allocated=lambda device: 30,
    )
    monkeypatch.setattr(f"torch.{kind}", module)
    assert accelerator.free_memory(torch.device(kind)) == 50
    del module.memory_reserved  # as for a registered device that lacks this function
    assert accelerator.free_memory(torch.device(kind)) == 10


def test_the_cpu_is_no_accelerator() -> None:
    numbers = (accelerator.total_memory, accelerator.free_memory, accelerator.peak_memory)
    assert [ask(CPU) for ask in numbers] == [None] * 3
    assert accelerator.device_count(CPU) == 0 and not accelerator.pins_memory(CPU)
    assert accelerator.random_state(CPU) is None
    kinds = ("cpu", "cuda", "xpu", "mps", "meta")
    assert [accelerator.compiles(torch.device(kind)) for kind in kinds] == [True] * 4 + [False]
    with pytest.raises(ValueError, match="device=cpu has no events"):
        accelerator.recorded_event(CPU)


def test_a_device_without_collectives_is_refused() -> None:
    with pytest.raises(ValueError, match="device='meta': torch has no collectives for it"):
        accelerator.collectives("meta")


@pytest.fixture
def newer_settings() -> Iterator[None]:
    """TF32 as torch's newer setting chooses it: for matrix products, and not for convolutions."""
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has the older setting only")
    convolution: Any = torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision
    matmul.fp32_precision, convolution.fp32_precision = "tf32", "ieee"
    yield
    matmul.fp32_precision, convolution.fp32_precision = before


@pytest.mark.usefixtures("newer_settings")
def test_the_newer_setting_of_tf32_is_read() -> None:
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        _ = torch.backends.cuda.matmul.allow_tf32
    assert provenance(Config(), None).machine.deterministic["tf32"] is True
    key = kernels_key(CPU)
    assert key["tf32"] == "False" and key["matmul"].startswith("cuda tf32, cpu ")


def test_the_older_setting_is_read_as_before() -> None:
    """Names of files of caches hold these words, so they must not change."""
    expected = {"torch": torch.__version__, "device": "cpu", "matmul": "highest", "tf32": "True"}
    assert kernels_key(CPU) == expected
    torch.set_float32_matmul_precision("high")
    try:
        assert kernels_key(CPU) == {**expected, "matmul": "high"}
        assert accelerator.matmul_uses_tf32()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert not accelerator.matmul_uses_tf32()
