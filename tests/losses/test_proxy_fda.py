"""ProxyFDALoss and its generator against the loops, their properties and their cost."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.losses import FDALoss, NeighborGraph, ProxyFDALoss, ProxyGenerator
from avalanche_proxyfda.losses.proxies import proxy_count, spread_hinge
from tests.losses.common import features
from tests.losses.test_fda import MODES
from tests.reference.proxy_fda import proxy_fda


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(dim: int, k: int, **options: object) -> ProxyFDALoss:
    options = {"init_logit_scale": 6.0, "init_logit_bias": -3.0, "generator": seeded(), **options}
    return ProxyFDALoss(dim, k, **options).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("batch", "k", "ratio"), [(8, 3, 0.4), (5, 4, 0.6), (6, 2, 1.0)])
def test_values_and_gradients_equal_the_loops(mode: str, batch: int, k: int, ratio: float) -> None:
    equal_the_loops(mode, batch, k, ratio)


def test_without_attention_values_equal_the_loops() -> None:
    equal_the_loops("similarity", 8, 3, 0.6, attention=False)


def equal_the_loops(mode: str, batch: int, k: int, ratio: float, attention: bool = True) -> None:
    student, teacher = features(batch, 6).requires_grad_(), features(batch, 4, seed=1)
    options = {"proxy_ratio": ratio, "variance_weight": 0.7, "attention": attention}
    loss = build(6, k, negative_weight=mode, **options)
    layers = dict(loss.generator.named_parameters())
    ours = loss(student, teacher)
    theirs = proxy_fda(
        student, teacher, layers, k, ratio, 0.7, loss.log_scale.exp(), loss.bias, mode
    )
    inputs = {"student": student, **dict(loss.named_parameters())}
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-12)
        how = {"allow_unused": True, "retain_graph": True, "materialize_grads": True}
        found = torch.autograd.grad(own, list(inputs.values()), **how)
        expected = torch.autograd.grad(other, list(inputs.values()), **how)
        for name, a, b in zip(inputs, found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=name)


def test_gradcheck_of_both_terms() -> None:
    loss, teacher = build(5, 3, max_proxies=4), features(7, 4, seed=1)
    student = features(7, 5).requires_grad_()

    # pooling weights depend on the student's values but pass no gradient to it by design,
    # so numerical differences need them frozen: with equal attention and equal logits
    zeroed = ("near.outer.weight", "far.outer.weight", "query.weight")
    layers = dict(loss.generator.named_parameters())
    with torch.no_grad():
        for name in zeroed:
            layers[name].zero_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher).alignment, student)
    with torch.no_grad():
        for name in zeroed:
            layers[name].normal_(generator=seeded(1))
    for name in ("near.outer.weight", "far.inner.bias", "query.weight", "key.weight"):
        assert torch.autograd.gradcheck(
            lambda w, name=name: torch.func.functional_call(
                loss, {f"generator.{name}": w}, (student, teacher)
            )[1],
            layers[name],
        ), name


def test_each_term_reaches_only_its_own_parameters() -> None:
    loss = build(6, 3)
    student = features(9, 6).requires_grad_()
    names = dict(loss.named_parameters())
    made = loss(student, features(9, 6, seed=1))
    pulled = torch.autograd.grad(
        made.alignment, [student, *names.values()], allow_unused=True, retain_graph=True
    )
    taught = torch.autograd.grad(made.generator, [student, *names.values()], allow_unused=True)
    reached = {n for n, g in zip(("student", *names), pulled, strict=True) if g is not None}
    assert reached == {"student", "log_scale", "bias"}
    reached = {n for n, g in zip(("student", *names), taught, strict=True) if g is not None}
    assert reached == {n for n in names if n.startswith("generator.")}


def test_without_proxies_alignment_is_fda() -> None:
    student, teacher = features(10, 6), features(10, 6, seed=1)
    made = build(6, 3, proxy_ratio=0.0)(student, teacher)
    plain = FDALoss(3, init_logit_scale=6.0, init_logit_bias=-3.0).double()(student, teacher)
    torch.testing.assert_close(made.alignment, plain)
    assert float(made.generator) == 0


def test_proxies_enter_alignment_and_can_be_detached() -> None:
    student, teacher = features(10, 6).requires_grad_(), features(10, 6, seed=1)
    attached, detached = build(6, 3), build(6, 3, detach_proxies=True)
    values = [loss(student, teacher).alignment for loss in (attached, detached)]
    torch.testing.assert_close(values[0], values[1])
    gradients = [torch.autograd.grad(v, student)[0] for v in values]
    assert not torch.allclose(gradients[0], gradients[1])
    assert not torch.isclose(values[0], build(6, 3, proxy_ratio=0)(student, teacher).alignment)


def test_scale_and_permutation_invariance() -> None:
    loss, student, teacher = build(6, 3), features(11, 6), features(11, 5, seed=1)
    value = loss(student, teacher)
    scales = torch.linspace(0.01, 50, 11, dtype=torch.float64).unsqueeze(1)
    order = torch.randperm(11, generator=seeded(2))
    torch.testing.assert_close(loss(student * scales, teacher), value)
    torch.testing.assert_close(loss(student[order], teacher[order]), value)


def pooled(
    generator: ProxyGenerator, rows: Tensor, members: Tensor, count: int, near: bool = True
) -> tuple[Tensor, Tensor]:
    """S [C, count, S] and the weights of the proxies over the batch [C, count, B]."""
    projections = generator.encode(rows)
    attention = generator.attention(projections)
    is_member = torch.zeros(len(members), len(rows), dtype=torch.bool).scatter(1, members, True)
    pooling = generator.pool(projections, attention, members, is_member, count, near)
    weights = pooling.over_batch
    if attention is not None:
        weights = weights @ attention * is_member.unsqueeze(1)
    return pooling.over_members, weights


@pytest.mark.parametrize("attention", [True, False])
def test_pooling_weights_are_convex_and_sets_do_not_leak(attention: bool) -> None:
    generator = ProxyGenerator(6, 8, attention=attention, generator=seeded()).double()
    rows = unit_rows(features(12, 6))
    near, far = NeighborGraph.of(rows, 4).sets()
    softmax, weights = pooled(generator, rows, near, 3)
    assert softmax.shape == (12, 3, 4) and weights.shape == (12, 3, 12)
    for values in (softmax, weights):
        assert (values >= 0).all()
        torch.testing.assert_close(values.sum(-1), torch.ones(12, 3, dtype=torch.float64))
    assert (weights.gather(2, far.unsqueeze(1).expand(-1, 3, -1)) == 0).all()
    changed = rows.clone()
    stranger = int(far[0, 2])
    changed[stranger] = unit_rows(torch.ones(1, 6, dtype=torch.float64))[0]
    for value, again in zip((softmax, weights), pooled(generator, changed, near, 3), strict=True):
        torch.testing.assert_close(again[0], value[0], rtol=0, atol=1e-15)
    others, moved = (pooled(generator, r, far, 3, near=False)[0][0] for r in (rows, changed))
    assert not torch.allclose(others, moved)


def test_the_two_sets_have_heads_of_their_own() -> None:
    generator = ProxyGenerator(6, 4, generator=seeded()).double()
    rows, members = unit_rows(features(9, 6)), torch.tensor([[1, 4, 2, 7]])
    near, far = (pooled(generator, rows, members, 3, near=n)[0] for n in (True, False))
    assert not torch.allclose(near, far)
    with torch.no_grad():
        generator.far.load_state_dict(generator.near.state_dict())
    torch.testing.assert_close(pooled(generator, rows, members, 3, near=False)[0], near)


def test_attention_with_huge_logits_stays_finite() -> None:
    loss = ProxyFDALoss(6, 4, generator=seeded())
    with torch.no_grad():
        for layer in (loss.generator.query, loss.generator.key):
            assert layer is not None
            layer.weight.mul_(100)
    student = features(12, 6).float().requires_grad_()
    made = loss(student, features(12, 6, seed=1).float())
    (made.alignment + made.generator).backward()
    for tensor in (student, *loss.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


def test_kernel_one_pools_without_regard_to_order() -> None:
    rows = unit_rows(features(9, 6))
    members = torch.tensor([[1, 4, 2, 7]])
    turned = members[:, [2, 0, 3, 1]]
    generator = ProxyGenerator(6, 4, kernel_size=1, generator=seeded()).double()
    softmax, weights = pooled(generator, rows, members, 3)
    softmax_turned, weights_turned = pooled(generator, rows, turned, 3)
    torch.testing.assert_close(softmax_turned, softmax[..., [2, 0, 3, 1]])
    torch.testing.assert_close(weights_turned, weights)
    ranked = ProxyGenerator(6, 4, kernel_size=3, generator=seeded()).double()
    softmax, _ = pooled(ranked, rows, members, 3)
    again, _ = pooled(ranked, rows, turned, 3)
    assert not torch.allclose(again, softmax[..., [2, 0, 3, 1]])


def test_generator_size_is_the_papers() -> None:
    """The paper: 23.6 K parameters; method.md asks for 10 % at D = 512, B = 64, K = 8."""
    most = max(ProxyFDALoss(512, 8).counts(64))
    size = sum(p.numel() for p in ProxyGenerator(512, most).parameters())
    assert size == 2 * 512 * 8 + 2 * (512 * 14 + 14) + 2 * 14 * 3 * 22
    assert abs(size - 23_600) <= 2_360


def test_the_generator_learns_to_spread_its_proxies() -> None:
    student = features(24, 16).float()
    near, _ = NeighborGraph.of(student, 6).sets()
    loss = ProxyFDALoss(16, 6, proxy_ratio=1.0, variance_weight=100.0, generator=seeded())
    optimizer = torch.optim.AdamW(loss.generator.parameters(), lr=1e-2)

    def spread() -> float:
        _, weights = pooled(loss.generator, unit_rows(student), near, 6)
        return 1 - spread_hinge(unit_rows(weights @ unit_rows(student))).mean().item()

    before = spread()
    for _ in range(40):
        optimizer.zero_grad()
        loss(student, student).generator.backward()
        optimizer.step()
    assert spread() > 1.5 * before


def test_the_hinge_aims_at_one_and_is_largest_when_proxies_are_equal() -> None:
    axes = torch.eye(4, dtype=torch.float64).unsqueeze(0)
    spread = 4 * torch.cat((axes, -axes), dim=1)
    assert float(spread_hinge(spread)) == 0  # a deviation of 2.1 in each dimension
    # unit rows never reach the target of 1: their deviations are about 1/sqrt(D)
    unit = float(spread_hinge(torch.cat((axes, -axes), dim=1)))
    assert unit == pytest.approx(1 - (2 / 7 + 1e-4) ** 0.5)
    same = axes[:, :1].expand(1, 5, 4)
    assert float(spread_hinge(same)) == pytest.approx(0.99)
    assert float(spread_hinge(axes[:, :1])) == 0


def test_counts_round_to_the_nearest_and_never_vanish() -> None:
    assert [proxy_count(n, 0.4, 99) for n in (0, 1, 2, 16, 47)] == [0, 1, 1, 6, 19]
    assert proxy_count(47, 0.4, 10) == 10 and proxy_count(47, 0.0, 10) == 0
    assert ProxyFDALoss(8).counts(64) == (3, 22)
    assert ProxyFDALoss(8).variance_weight == 5.0


def test_a_cap_on_proxies_is_said_once() -> None:
    loss = ProxyFDALoss(6, 3, max_proxies=2, generator=seeded())
    student, teacher = features(12, 6).float(), features(12, 6, 1).float()
    with pytest.warns(UserWarning, match="max_proxies=2 caps the 3 proxies"):
        loss(student, teacher)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(student, teacher)


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 16, 17, 18])
@pytest.mark.filterwarnings("ignore:num_neighbors=8 is clamped")
def test_every_batch_size_works(batch: int) -> None:
    loss = ProxyFDALoss(6, generator=seeded())
    student = features(batch, 6).float().requires_grad_()
    made = loss(student, features(batch, 6, seed=1).float())
    (made.alignment + made.generator).backward()
    assert student.grad is not None and student.grad.isfinite().all()
    assert all(term.isfinite() and term.ndim == 0 for term in made)
    if batch < 2:
        assert float(made.alignment) == float(made.generator) == 0


def test_zero_and_duplicate_rows_stay_finite() -> None:
    student = features(12, 6).float()
    student[3], student[4:8] = 0, student[8]
    teacher = student.clone()
    student.requires_grad_()
    loss = ProxyFDALoss(6, 4, generator=seeded())
    made = loss(student, teacher)
    (made.alignment + made.generator).backward()
    for tensor in (student, *loss.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


def test_half_precision_and_autocast_give_float32() -> None:
    student, teacher = features(20, 6).bfloat16(), features(20, 6, 1).bfloat16()
    loss = ProxyFDALoss(6, 4, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = loss(student, teacher)
    exact = ProxyFDALoss(6, 4, generator=seeded())(student.float(), teacher.float())
    torch.testing.assert_close(made, exact)
    assert made.alignment.dtype == torch.float32


def test_building_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    ProxyFDALoss(6, generator=seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxy_ratio": -0.1}, "proxy_ratio=-0.1"),
        ({"variance_weight": float("nan")}, "variance_weight=nan"),
        ({"max_proxies": 0}, "max_proxies=0"),
        ({"kernel_size": 2}, "kernel_size=2 must be odd"),
        ({"dim": 0}, "dim=0"),
    ],
)
def test_bad_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ProxyFDALoss(**{"dim": 8, **options})  # type: ignore[arg-type]


def test_a_student_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="student has D=5, but the loss was built with dim=6"):
        ProxyFDALoss(6)(torch.ones(4, 5), torch.ones(4, 5))
