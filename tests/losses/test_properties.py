"""Properties that hold for every batch that hypothesis draws."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from avalanche_proxyfda.losses import NeighborGraph
from tests.losses.common import LOSSES, features, loss_on_rows, rotation
from tests.methods import ON_GRAPH, WITH_CACHE, accepted, method_of, toy_loss
from tests.reference import fda as fda_loops
from tests.reference import rift as rift_loops
from tests.reference.distillation import distillation as distillation_loops
from tests.reference.dive import dive as dive_loops
from tests.reference.ldifs import ldifs as ldifs_loops
from tests.reference.lipsum import lipsum as lipsum_loops
from tests.reference.pkt import pkt as pkt_loops
from tests.reference.proxy_fda import proxy_fda as proxy_fda_loops
from tests.reference.rkd import rkd as rkd_loops
from tests.reference.snd import snd as snd_loops
from tests.reference.zscl import zscl as zscl_loops

settings.register_profile(
    "losses",
    derandomize=True,  # the same batches in every run
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PROFILE = settings.get_profile("losses")
few, many = settings(PROFILE, max_examples=25), settings(PROFILE, max_examples=60)

MODES = ("similarity", "one-minus", "unit")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
EDGES = ("none", "duplicates", "zeros", "one class", "all equal", "all zero", "huge", "tiny")


@dataclass(frozen=True)
class Batch:
    """A batch of features, as hypothesis prints it."""

    rows: int
    dim: int
    teacher_dim: int
    dtype: torch.dtype
    student_edge: str
    teacher_edge: str
    seed: int

    def make(self) -> tuple[Tensor, Tensor]:
        """Student, with gradient, and teacher."""
        made = (
            self._edge(features(self.rows, dim, 2 * self.seed + k), edge).to(self.dtype)
            for k, (dim, edge) in enumerate(
                ((self.dim, self.student_edge), (self.teacher_dim, self.teacher_edge))
            )
        )
        student, teacher = made
        return student.requires_grad_(), teacher

    def _edge(self, rows: Tensor, edge: str) -> Tensor:
        source = torch.Generator().manual_seed(self.seed)
        chosen = torch.rand(len(rows), generator=source) < 0.5
        if edge == "duplicates":
            rows[chosen] = rows[:1].clone()
        elif edge == "zeros":
            rows[chosen] = 0
        elif edge == "one class":  # one direction and a little noise
            rows = rows[:1] + 1e-3 * rows
        elif edge == "all equal":
            rows = rows[:1].expand_as(rows).clone()
        elif edge == "all zero":
            rows = torch.zeros_like(rows)
        elif edge in ("huge", "tiny"):
            limit = 1e4 if self.dtype == torch.float16 else 1e20
            factor = limit if edge == "huge" else 1 / limit
            rows[chosen] *= factor
        return rows


def batches(dtypes: tuple[torch.dtype, ...] = DTYPES, most: int = 12, least: int = 0) -> Any:
    return st.builds(
        Batch,
        rows=st.integers(least, most),
        dim=st.integers(1, 9),
        teacher_dim=st.integers(1, 9),
        dtype=st.sampled_from(dtypes),
        student_edge=st.sampled_from(EDGES),
        teacher_edge=st.sampled_from(EDGES),
        seed=st.integers(0, 1000),
    )


neighbors = st.integers(1, 14)
chunk_sizes = st.sampled_from(["auto", 1, 2, 5, 40])
modes = st.sampled_from(MODES)


def of_graph(kind: str, dim: int, k: int, mode: str, chunk_size: Any, ratio: float = 0.4) -> Any:
    size = {} if kind == "soft-fda" else {"max_proxies": 16}  # soft-fda has no proxies here
    options = accepted(kind, proxy_ratio=ratio, seed=k, **size)
    loss: Any = toy_loss(
        kind,
        dim,
        num_neighbors=k,
        negative_weight=mode,
        chunk_size=chunk_size,
        init_logit_scale=6.0,
        init_logit_bias=-3.0,
        **options,
    )
    return loss


def total(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "num_neighbors=.* is clamped")
        made = loss(student, teacher)
    return made if isinstance(made, Tensor) else made.alignment + made.generator


def check_finite(value: Tensor, inputs: list[Tensor]) -> None:
    assert value.ndim == 0 and value.isfinite()
    assert value.dtype == (torch.float64 if inputs[0].dtype == torch.float64 else torch.float32)
    for gradient in torch.autograd.grad(value, inputs, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


# ---- FDA and Proxy-FDA --------------------------------------------------------------------


@many
@given(batch=batches(), k=neighbors, mode=modes, chunk_size=chunk_sizes)
@pytest.mark.parametrize("kind", ON_GRAPH)
def test_graph_losses_are_finite(
    kind: str, batch: Batch, k: int, mode: str, chunk_size: Any
) -> None:
    student, teacher = batch.make()
    loss = of_graph(kind, batch.dim, k, mode, chunk_size)
    value = total(loss, student, teacher)
    check_finite(value, [student, *loss.parameters()])


@many
@given(batch=batches((torch.float64,), least=2), k=neighbors, mode=modes, chunk_size=chunk_sizes)
@pytest.mark.parametrize("kind", ON_GRAPH)
def test_graph_losses_do_not_see_scale_and_order(
    kind: str, batch: Batch, k: int, mode: str, chunk_size: Any
) -> None:
    student, teacher = batch.make()
    # equally near rows are told apart by their place, which another order changes
    teacher = features(batch.rows, 9, batch.seed)
    loss = of_graph(kind, batch.dim, k, mode, chunk_size).double()
    value = total(loss, student, teacher)
    source = torch.Generator().manual_seed(batch.seed)
    order = torch.randperm(batch.rows, generator=source)
    scales = torch.rand(batch.rows, 1, generator=source, dtype=torch.float64) * 100 + 0.01
    torch.testing.assert_close(total(loss, student * scales, teacher), value)
    torch.testing.assert_close(total(loss, student, teacher * scales), value)
    torch.testing.assert_close(total(loss, student[order], teacher[order]), value)
    if kind == "fda":  # a generator is no function of cosines alone
        turned = student @ rotation(batch.dim, batch.seed)
        torch.testing.assert_close(total(loss, turned, teacher), value)
    turned = teacher @ rotation(9, batch.seed)
    torch.testing.assert_close(total(loss, student, turned), value)


@many
@given(batch=batches(most=9), k=neighbors, mode=modes, chunk_size=chunk_sizes)
def test_fda_equals_the_loops(batch: Batch, k: int, mode: str, chunk_size: Any) -> None:
    student, teacher = batch.make()
    loss = of_graph("fda", batch.dim, k, mode, chunk_size)
    value = total(loss, student, teacher)
    exact = student.detach().double().requires_grad_()
    if batch.rows < 2:
        assert float(value) == 0
        return
    # who is nearest of nearly equal rows is settled by rounding: so both are given the same
    known = teacher if batch.dtype == torch.float64 else teacher.float()
    near = NeighborGraph.of(known, k).is_neighbor()
    expected = fda_of(exact, teacher.double(), near, loss, mode)
    rough = batch.dtype != torch.float64
    tolerance = {"rtol": 2e-5, "atol": 2e-6} if rough else {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(value.double(), expected, **tolerance)
    if not rough:
        (ours,) = torch.autograd.grad(value, student)
        # where no cosine depends on the student, the loops have no gradient at all
        (theirs,) = torch.autograd.grad(expected + 0 * exact.sum(), exact)
        sizes = exact.detach().norm(dim=1, keepdim=True)  # slopes go with 1 / size
        torch.testing.assert_close(ours * sizes, theirs * sizes, rtol=1e-8, atol=1e-11)


def fda_of(student: Tensor, teacher: Tensor, near: Tensor, loss: nn.Module, mode: str) -> Tensor:
    """The loops' FDA for given neighbours."""
    scale, bias = loss.log_scale.detach().double().exp(), loss.bias.detach().double()
    count, result = len(student), torch.zeros((), dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            if i != j:
                similarity = fda_loops.cosine(teacher[i], teacher[j])
                w = fda_loops.weight(similarity, bool(near[i, j]), mode)
                cosine = fda_loops.cosine(student[i], student[j])
                result = result + fda_loops.term(w, cosine, scale, bias) / (count * (count - 1))
    return result


@few
@given(
    rows=st.integers(2, 7),
    dim=st.integers(2, 6),
    k=st.integers(1, 8),
    mode=modes,
    chunk_size=chunk_sizes,
    ratio=st.sampled_from([0.2, 0.4, 1.0]),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(DTYPES),
)
def test_proxy_fda_equals_the_loops(
    rows: int,
    dim: int,
    k: int,
    mode: str,
    chunk_size: Any,
    ratio: float,
    seed: int,
    dtype: torch.dtype,
) -> None:
    student, teacher = features(rows, dim, seed).to(dtype), features(rows, 5, seed + 1).to(dtype)
    loss = of_graph("proxy-fda", dim, k, mode, chunk_size, ratio)
    loss = loss.double() if dtype == torch.float64 else loss
    layers = {n: p.detach().double() for n, p in loss.generator.named_parameters()}
    expected = proxy_fda_loops(
        student.double(),
        teacher.double(),
        layers,
        k,
        ratio,
        5.0,
        loss.log_scale.detach().double().exp(),
        loss.bias.detach().double(),
        mode,
    )
    exact = dtype == torch.float64
    tolerance = {"rtol": 1e-9, "atol": 1e-11} if exact else {"rtol": 1e-4, "atol": 1e-5}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "num_neighbors=.* is clamped")
        made = loss(student, teacher)
    for own, other in zip(made, expected, strict=True):
        torch.testing.assert_close(own.double(), other, **tolerance)


# ---- the rivals ---------------------------------------------------------------------------


RIVALS = tuple(
    name for name in LOSSES if method_of(name) in WITH_CACHE and method_of(name) not in ON_GRAPH
)
"""Losses on features without a graph."""


def same_width(batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """Student and teacher of one width, of sizes that the method can compare in its precision."""
    edges, dtype = [batch.student_edge, batch.teacher_edge], batch.dtype
    if name in ("rkd", "dive") or name.startswith("rift"):  # 1e20 squared is no float32
        edges = ["none" if e == "huge" else e for e in edges]
    if name.startswith("rift") and dtype == torch.float16:
        # relative to a teacher that hardly varies, slopes are steeper than float16 can hold
        dtype = torch.bfloat16
    return Batch(batch.rows, batch.dim, batch.dim, dtype, *edges, batch.seed).make()


@many
@given(batch=batches(most=9))
@pytest.mark.parametrize("name", RIVALS)
def test_rivals_are_finite_and_zero_at_the_teacher(name: str, batch: Batch) -> None:
    student, teacher = same_width(batch, name)
    loss = loss_on_rows(name, student.shape[1])
    check_finite(loss(student, teacher), [student])
    at_teacher = teacher.detach().clone().requires_grad_()
    value = loss(at_teacher, teacher)
    assert float(value) == 0
    (gradient,) = torch.autograd.grad(value, at_teacher)
    rounded = name in ("lwf", "rift-procrustes")
    assert gradient.abs().sum() <= (1e-6 if rounded else 0)


def words(rows: Tensor) -> Tensor:
    """Return the text features of the toy losses."""
    return features(5, rows.shape[1], 77)


LOOPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ldifs": lambda s, t: ldifs_loops(
        [x[:, None] for x in (s, s, s)], [x[:, None] for x in (t, t, t)], ["row", "token", "row"]
    ),
    "rkd": lambda s, t: rkd_loops(s, t, 1.0, 2.0),
    "pkt": pkt_loops,
    "rift-identity": lambda s, t: rift_loops.identity(s, t) + 0.5 * rift_loops.mean_term(s, t),
    "rift-procrustes": rift_loops.procrustes,
    "rift-learned": lambda s, t: rift_loops.identity(s, t) + 0.5 * rift_loops.mean_term(s, t),
    "rift-uncentered": rift_loops.uncentred_identity,
    "lwf": lambda s, t: distillation_loops(s, t, 2.0),
    "zscl": lambda s, t: zscl_loops(s, t, words(s), words(s), 4.0, 2.0),
    "lipsum-ft": lambda s, t: lipsum_loops(s, t, words(s), 4.0),
    "snd": lambda s, t: snd_loops(s, t, t, (9.0, 0.5), 0.2, 6.0, True, True),
    "dive": lambda s, t: dive_loops(s, t, torch.zeros(s.shape[1])),
}


@few
@given(
    rows=st.integers(2, 6),
    dim=st.integers(1, 5),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(DTYPES),
    repeated=st.booleans(),
)
@pytest.mark.parametrize("name", LOOPS)
def test_rivals_equal_the_loops(
    name: str, rows: int, dim: int, seed: int, dtype: torch.dtype, repeated: bool
) -> None:
    student, teacher = features(rows, dim, seed).to(dtype), features(rows, dim, seed + 1).to(dtype)
    if repeated:
        student[-1] = student[0]
    expected = LOOPS[name](student.double(), teacher.double())
    exact = dtype == torch.float64
    tolerance = {"rtol": 1e-9, "atol": 1e-11} if exact else {"rtol": 1e-3, "atol": 1e-5}
    torch.testing.assert_close(
        loss_on_rows(name, student.shape[1])(student, teacher).double(), expected, **tolerance
    )
