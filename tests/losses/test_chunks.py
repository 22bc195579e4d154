"""Chunks of anchors: the same results, and what they keep and hold, counted in bytes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.losses import FDALoss, NeighborGraph, ProxyFDALoss, chunks
from benchmarks.perf.counting import memory_of
from benchmarks.perf.saved import peak_bytes, saved_bytes
from tests.losses.common import features
from tests.reference import fda as reference

MIB = 2**20


def fda(chunk_size: int | str = "auto", dim: int = 6) -> FDALoss:
    return FDALoss(3, init_logit_bias=-3.0, chunk_size=chunk_size)  # type: ignore[arg-type]


def proxy_fda(chunk_size: int | str = "auto", dim: int = 6, **options: object) -> ProxyFDALoss:
    source = torch.Generator().manual_seed(5)
    options = {"init_logit_bias": -3.0, "generator": source, **options}
    return ProxyFDALoss(dim, 3, chunk_size=chunk_size, **options)  # type: ignore[arg-type]


def detached(chunk_size: int | str = "auto", dim: int = 6) -> ProxyFDALoss:
    return proxy_fda(chunk_size, dim, detach_proxies=True)


def total(loss: torch.nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    made = loss(student, teacher)
    return made if isinstance(made, Tensor) else made.alignment + made.generator


Build = Callable[..., torch.nn.Module]


@pytest.mark.parametrize("build", [fda, proxy_fda, detached])
@pytest.mark.parametrize("size", [1, 4, 10, 13, 64], ids=lambda s: f"chunk{s}")
def test_chunks_change_nothing(build: Build, size: int) -> None:
    student, teacher = features(13, 6).requires_grad_(), features(13, 6, seed=1)
    results = []
    for chunk_size in (size, "auto"):  # so small a batch is kept whole by the second
        loss = build(chunk_size).double()
        value = total(loss, student, teacher)
        results.append((value, *torch.autograd.grad(value, [student, *loss.parameters()])))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """First and last queries of the chunks that are computed again in backward."""
    calls, plain = [], chunks.checkpoint

    def counting(part: object, first: int, last: int, *given: object, **options: object) -> object:
        calls.append((first, last))
        return plain(part, first, last, *given, **options)

    monkeypatch.setattr(chunks, "checkpoint", counting)
    return calls


@pytest.mark.parametrize("build", [fda, proxy_fda])
def test_auto_cuts_a_large_batch_and_the_last_chunk_may_be_short(
    build: Build, spans: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = features(13, 6).requires_grad_(), features(13, 6, seed=1)
    results = []
    for whole in (chunks._SAVED_WHOLE, 0):
        monkeypatch.setattr(chunks, "_SAVED_WHOLE", whole)
        loss = build().double()
        width = 13 if build is fda else 13 * (2 * 14 + 2 * 8)
        monkeypatch.setattr(chunks, "block_bytes", lambda device: 8 * (5 * width + 1))  # noqa: B023
        value = total(loss, student, teacher)
        results.append((value, *torch.autograd.grad(value, [student, *loss.parameters()])))
    assert spans == [(0, 5), (5, 10), (10, 13)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("span", [(0, 4), (3, 9), (8, 9)])
def test_a_graph_of_some_anchors_is_a_part_of_the_whole(span: tuple[int, int]) -> None:
    rows, (first, last) = features(9, 5), span
    rows[4], rows[6] = rows[2], 0  # equally near ones, and a zero row
    for k in (1, 3, 8, 20):
        whole, part = NeighborGraph.of(rows, k), NeighborGraph.of(rows, k, first, last)
        torch.testing.assert_close(part.similarity, whole.similarity[first:last])
        assert torch.equal(part.is_neighbor(), whole.is_neighbor()[first:last])
        near, far = part.sets()
        assert torch.equal(near, whole.sets()[0][first:last])
        for i, mask in zip(range(first, last), part.is_neighbor(), strict=True):
            ranked = reference.ranked(rows, i)
            row = [*near[i - first].tolist(), *far[i - first].tolist()]
            assert sorted(row) == sorted(ranked) and set(near[i - first].tolist()) == {
                j for j in range(9) if mask[j]
            }


# ---- bytes ------------------------------------------------------------------------------


def batch_of(batch: int, dim: int) -> tuple[Tensor, Tensor]:
    student, teacher = features(batch, dim).float(), features(batch, dim, seed=1).float()
    return student.requires_grad_(), teacher


def test_the_measures_count_what_they_should() -> None:
    weights = torch.ones(MIB // 4, requires_grad=True)
    used = saved_bytes(lambda: (weights.exp() * 3).sin().sum(), (weights,))
    assert used == 2 * MIB  # of exp its result, of sin its argument
    with torch.no_grad():
        constant = torch.ones(MIB // 4)

    def chain() -> Tensor:
        value = constant
        for _ in range(5):
            value = value + 1  # two of them alive at a time
        return (value.sum() * weights[0]).sum()

    assert 2 * MIB <= peak_bytes(chain) < 3.1 * MIB


@pytest.mark.parametrize(("batch", "most"), [(64, 0.5), (1024, 20), (4096, 40)])
def test_fda_saves_little(batch: int, most: float) -> None:
    student, teacher = batch_of(batch, 768)
    used = saved_bytes(lambda: FDALoss()(student, teacher), (student, teacher))
    # the rows of both sides and their norms, or of a batch that is kept a few [B, B]
    assert 0 < used <= most * MIB
    assert used <= 4 * batch * 768 * 4 + (5 * batch * batch * 4 if batch <= 1024 else 0)


@pytest.mark.filterwarnings("ignore:max_proxies=4 caps")
@pytest.mark.parametrize(("batch", "most"), [(256, 4), (1024, 24)])
def test_proxy_fda_saves_one_matrix_of_cosines(batch: int, most: float) -> None:
    student, teacher = batch_of(batch, 768)
    # K and the proxies are chosen for speed: nothing that depends on them is kept
    loss = ProxyFDALoss(768, batch // 2, max_proxies=4, generator=torch.Generator().manual_seed(5))
    used = saved_bytes(lambda: total(loss, student, teacher), (student, teacher))
    assert 0 < used <= most * MIB
    assert used <= 4 * batch * batch + 8 * batch * 768 * 4


def test_bytes_saved_by_proxy_fda_do_not_depend_on_its_proxies() -> None:
    student, teacher = batch_of(96, 768)
    used = {
        saved_bytes(
            lambda most=most: total(proxy_fda(16, 768, max_proxies=most), student, teacher),
            (student, teacher),
        )
        // 4096
        for most in (48, 64)
    }
    small = proxy_fda(16, 768, proxy_ratio=0.05)
    used.add(saved_bytes(lambda: total(small, student, teacher), (student, teacher)) // 4096)
    assert len(used) == 1


def test_a_small_batch_of_proxy_fda_is_saved_whole() -> None:
    student, teacher = batch_of(64, 768)
    loss = ProxyFDALoss(768, generator=torch.Generator().manual_seed(5))
    used = saved_bytes(lambda: total(loss, student, teacher), (student, teacher))
    assert 5 * MIB < used < 12 * MIB


# ---- the device -----------------------------------------------------------------------


def test_a_chunk_depends_on_the_memory_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory, block in ((2**30, 8 * MIB), (80 * 2**30, 320 * MIB)):
        properties = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)  # noqa: B023
        assert chunks.block_bytes(torch.device("cuda")) == block
    for host in ("cpu", "meta"):
        assert chunks.block_bytes(torch.device(host)) == 8 * MIB
        assert not chunks.on_accelerator(torch.device(host))


def test_an_accelerator_saves_a_batch_of_one_chunk_whole(
    spans: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_SAVED_WHOLE", 0)
    student, teacher = features(13, 6), features(13, 6, seed=1)
    values = []
    for queries, expected in ((13, []), (12, [(0, 12), (12, 13)])):
        monkeypatch.setattr(chunks, "block_bytes", lambda device: 8 * 13 * queries)  # noqa: B023
        with memory_of(80 * 2**30):
            values.append(fda().double()(student.requires_grad_(), teacher))
        assert spans == expected
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-14)
    fda().double()(student, teacher)
    assert spans[2:] == [(0, 12), (12, 13)]  # the CPU


@pytest.mark.filterwarnings("ignore:max_proxies=32 caps")
@pytest.mark.parametrize("build", [fda, proxy_fda])
def test_saved_bytes_do_not_grow_with_the_chunk(build: Build) -> None:
    student, teacher = batch_of(96, 32)
    used = {
        size: saved_bytes(
            lambda size=size: total(build(size, 32), student, teacher), (student, teacher)
        )
        for size in (2, 16, 96)
    }
    assert max(used.values()) - min(used.values()) < 0.1 * min(used.values())


def test_what_a_chunk_holds_is_bounded() -> None:
    peaks = {}
    for size in (6, 24, 96):
        student, teacher = batch_of(96, 64)
        loss = proxy_fda(size, 64, max_proxies=64)
        peaks[size] = peak_bytes(lambda: total(loss, student, teacher))  # noqa: B023
    assert peaks[6] < 0.5 * peaks[24] < 0.25 * peaks[96] * 1.2
    student, teacher = batch_of(1600, 64)
    assert peak_bytes(lambda: FDALoss()(student, teacher)) < 12 * 8 * MIB


@pytest.mark.parametrize("build", [fda, proxy_fda])
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (0, ValueError, "chunk_size=0 must be at least 1"),
        (2.0, TypeError, r"chunk_size=2.0 must be an int"),
        (None, TypeError, r"chunk_size=None must be an int"),
        ("all", ValueError, "chunk_size='all' is unknown; pass \"auto\" or a number"),
    ],
)
def test_bad_chunk_sizes(build: Build, value: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build(value)
