"""The processor in full, as records hold it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.experiment import processor
from benchmarks.experiment.processor import blas, cpu

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse4_1 sse4_2 avx smep avx2 fma avx512_bf16 amx_tile

processor\t: 1
vendor_id\t: another
"""
ARM = """processor\t: 0
Features\t: fp asimd sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd40
CPU revision\t: 1
"""


def test_linux_on_x86(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(X86, encoding="utf-8")
    for name in processor.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    found = cpu(tmp_path / "cpuinfo")
    assert (found.vendor, found.family, found.model, found.stepping) == ("AuthenticAMD", 25, 1, 1)
    kernels = ("amx_tile", "avx", "avx2", "avx512_bf16", "fma", "sse4_1", "sse4_2")
    assert found.known and found.instructions == kernels
    assert found.limits == {"ONEDNN_MAX_CPU_ISA": "SSE41"}
    assert found.torch_capability == torch.backends.cpu.get_cpu_capability()
    assert found.onednn is torch.backends.mkldnn.is_available()


def test_linux_on_arm(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(ARM, encoding="utf-8")
    found = cpu(tmp_path / "cpuinfo")
    assert (found.vendor, found.family, found.model, found.stepping) == ("0x41", 8, 0xD40, 1)
    assert found.instructions == ("asimd", "bf16", "i8mm", "sve")


@pytest.mark.parametrize(
    ("identifier", "named"),
    [
        ("Intel64 Family 6 Model 142 Stepping 12, GenuineIntel", ("GenuineIntel", 6, 142, 12)),
        ("AMD64 Family 25 Model 1 Stepping 1, AuthenticAMD", ("AuthenticAMD", 25, 1, 1)),
        ("arm", (None, None, None, None)),
    ],
)
def test_other_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identifier: str, named: tuple[object, ...]
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr("platform.processor", lambda: identifier)
    found = cpu(tmp_path / "nothing")
    assert (found.vendor, found.family, found.model, found.stepping) == named
    assert found.known == (None not in named) and found.instructions == ()


INTEL_MAC = """machdep.cpu.vendor: GenuineIntel
machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
machdep.cpu.family: 6
machdep.cpu.model: 158
machdep.cpu.stepping: 10
machdep.cpu.features: FPU SSE4.1 SSE4.2 AVX1.0 FMA
machdep.cpu.leaf7_features: BMI1 AVX2
hw.cpufamily: 260141638
hw.optional.avx1_0: 1
"""
APPLE_MAC = """machdep.cpu.cores_per_package: 8
machdep.cpu.brand_string: Apple M2
hw.cpufamily: -634136515
hw.cpusubfamily: 2
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.neon: 1
"""


@pytest.mark.parametrize(
    ("shown", "named", "kernels", "name"),
    [
        (
            INTEL_MAC,
            ("GenuineIntel", 6, 158, 10),
            ("avx", "avx2", "fma", "sse4_1", "sse4_2"),
            "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
        ),
        (APPLE_MAC, ("Apple", 0xDA33D83D, 2, 0), ("bf16", "i8mm", "neon"), "Apple M2"),
        ("", (None, None, None, None), (), "arm"),
        (None, (None, None, None, None), (), "arm"),
    ],
    ids=["intel", "apple", "silent", "no sysctl"],
)
def test_macs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: str | None,
    named: tuple[object, ...],
    kernels: tuple[str, ...],
    name: str,
) -> None:
    def run(words: tuple[str, ...], **options: object) -> SimpleNamespace:
        assert words[0] == "sysctl"
        if shown is None:
            raise FileNotFoundError("sysctl")
        return SimpleNamespace(stdout=shown)

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.processor", lambda: "arm")
    found = cpu(tmp_path / "nothing")
    assert (found.vendor, found.family, found.model, found.stepping) == named
    assert found.instructions == kernels and found.known == (None not in named)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "nothing")
    assert processor.processor.__wrapped__() == name


def test_the_name_of_the_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: True)
    assert blas("BLAS_INFO=open") == "mkl"
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: False)
    assert blas("a, BLAS_INFO=open, b") == "open" and blas("a") == "unknown"


SIMULATED = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}


def test_a_simulated_processor_is_another(tmp_path: Path) -> None:
    """The variables with which another processor can be tried on this machine."""
    words = "from benchmarks.experiment.processor import cpu; print(repr(cpu()))"
    shown = subprocess.run(
        [sys.executable, "-c", words],
        env={**os.environ, **SIMULATED},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    plain = ("torch_capability='DEFAULT'", "torch_capability='NO AVX'")  # of torch 2.15, of 2.6
    assert any(text in shown for text in plain) and f"limits={SIMULATED}" in shown
    assert repr(cpu()) != shown.strip()
