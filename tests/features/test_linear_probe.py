"""The probe against scikit-learn and on features whose answer is known."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize

from avalanche_proxyfda.metrics import fit_probe, select_probe


def clusters(count: int, classes: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % classes
    return centres[labels] + noise * torch.randn(count, 10, generator=source), labels


@pytest.mark.parametrize("l2", [1e-2, 1e-4])
def test_equals_scikit_learn(l2: float) -> None:
    train, test = clusters(300, 5, 1.5, 1), clusters(400, 5, 1.5, 2)
    probe = fit_probe(*train, 5, l2)
    judge = LogisticRegression(C=1 / (l2 * 300), tol=1e-10, max_iter=5000)
    judge.fit(normalize(train[0].double(), dim=1).numpy(), train[1].numpy())
    theirs = torch.from_numpy(judge.decision_function(normalize(test[0].double(), dim=1).numpy()))
    ours = probe.logits(test[0])
    # logits are determined up to a constant for each sample
    gap = (ours - ours.mean(1, keepdim=True)) - (theirs - theirs.mean(1, keepdim=True))
    assert gap.abs().max() < 0.01  # of logits that span about 20
    expected = judge.score(normalize(test[0].double(), dim=1).numpy(), test[1].numpy())
    assert probe.accuracy(*test) == pytest.approx(expected, abs=0.005)


def test_separable_features_are_learnt_and_scale_does_not_matter() -> None:
    features, labels = clusters(100, 4, 0.01, 3)
    assert fit_probe(features, labels, 4, 1e-4).accuracy(features * 7, labels) == 1.0


def test_the_start_does_not_change_the_probe() -> None:
    train = clusters(200, 4, 1.0, 1)
    cold = fit_probe(*train, 4, 1e-3)
    warm = fit_probe(*train, 4, 1e-3, start=fit_probe(*train, 4, 1e-1))
    torch.testing.assert_close(cold.weight, warm.weight, atol=2e-3, rtol=1e-2)


def test_selection_takes_the_best_on_validation_and_the_larger_penalty_on_ties() -> None:
    train, validation = clusters(40, 4, 2.0, 1), clusters(400, 4, 2.0, 2)
    chosen = select_probe(train, validation, 4)
    scores = {l2: fit_probe(*train, 4, l2).accuracy(*validation) for l2 in (1e-2, 1e-3, 1e-4, 1e-5)}
    assert chosen.accuracy(*validation) == pytest.approx(max(scores.values()), abs=0.003)
    easy = clusters(80, 4, 0.01, 1)
    assert select_probe(easy, easy, 4).l2 == 1e-2


@pytest.mark.parametrize(
    ("features", "labels", "classes", "l2", "words"),
    [
        (torch.ones(0, 3), torch.ones(0).long(), 2, 1e-3, "features has 0 rows"),
        (
            torch.ones(2, 3),
            torch.tensor([0, 2]),
            2,
            1e-3,
            r"labels holds 2, .*classes=2\): raise",
        ),
        (torch.ones(2, 3), torch.tensor([0, 0]), 1, 1e-3, "classes=1 must be at least 2"),
        (torch.ones(2, 3), torch.tensor([-1, 0]), 2, 1e-3, "labels holds -1: number the classes"),
        (
            torch.ones(2, 3),
            torch.tensor([0, 1, 1]),
            2,
            1e-3,
            "labels has 3 entries",
        ),
        (torch.ones(2, 3), torch.tensor([0.0, 1]), 2, 1e-3, "labels has the dtype torch.float32"),
        (torch.ones(2, 3), torch.eye(2), 2, 1e-3, r"labels has shape \(2, 2\); expected \[N\]"),
        (torch.ones(2, 3, 1), torch.tensor([0, 1]), 2, 1e-3, r"features has shape .*: pool tokens"),
        (torch.ones(2, 0), torch.tensor([0, 1]), 2, 1e-3, r"features has shape \(2, 0\)"),
        (torch.ones(2, 3), torch.tensor([0, 1]), 2, 0.0, "l2=0"),
        (torch.full((2, 3), torch.nan), torch.tensor([0, 1]), 2, 1e-3, "NaN or Inf"),
    ],
)
def test_bad_input(features: Tensor, labels: Tensor, classes: int, l2: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_probe(features, labels, classes, l2)


def test_an_empty_grid_is_refused() -> None:
    data = clusters(20, 2, 0.1, 1)
    with pytest.raises(ValueError, match="grid is empty"):
        select_probe(data, data, 2, grid=())


def test_without_normalising_the_probe_is_a_linear_layer_of_features_of_any_scale() -> None:
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    rows = torch.randn(120, 5, generator=source) + 3 * torch.eye(5)[labels]
    probes = [fit_probe(rows * size, labels, 3, 1e-3, normalize=False) for size in (1.0, 1e4)]
    for size, probe in zip((1.0, 1e4), probes, strict=True):
        layer = torch.nn.Linear(5, 3).double()
        with torch.no_grad():
            layer.weight.copy_(probe.weight)
            layer.bias.copy_(probe.bias)
        found = layer(rows.double() * size)
        torch.testing.assert_close(probe.logits(rows * size), found.detach(), rtol=1e-5, atol=1e-5)
        assert probe.accuracy(rows * size, labels) > 0.9
    torch.testing.assert_close(
        probes[0].logits(rows), probes[1].logits(rows * 1e4), rtol=1e-3, atol=1e-3
    )
    flat = fit_probe(rows, labels, 3, 1e-3, normalize=False, bias=False)
    assert (flat.bias == 0).all() and flat.accuracy(rows, labels) > 0.8


def test_without_normalising_a_minimum_is_found() -> None:
    rows, labels = (
        torch.randn(60, 4, generator=torch.Generator().manual_seed(1)),
        torch.arange(60) % 3,
    )
    probe = fit_probe(rows, labels, 3, 1e-2, normalize=False)
    scale = float(rows.double().square().sum(1).mean().sqrt())
    weight = (probe.weight * scale).requires_grad_()
    bias = probe.bias.clone().requires_grad_()
    logits = rows.double() / scale @ weight.T + bias
    loss = torch.nn.functional.cross_entropy(logits, labels) + 0.005 * weight.square().sum()
    slopes = torch.autograd.grad(loss, (weight, bias))
    assert max(float(g.abs().max()) for g in slopes) < 1e-4


def test_lists_and_a_start_of_other_features_are_refused() -> None:
    rows, labels = clusters(20, 2, 0.1, 1)
    with pytest.raises(TypeError, match=r"features is a list, .*: convert it with torch\.as"):
        fit_probe(rows.tolist(), labels, 2, 1e-3)
    with pytest.raises(TypeError, match="labels is a list, and must be a tensor"):
        fit_probe(rows, labels.tolist(), 2, 1e-3)
    start = fit_probe(rows[:, :4], labels, 2, 1e-3)
    with pytest.raises(ValueError, match=r"start has .* \(2, 4\); expected \(2, 10\)"):
        fit_probe(rows, labels, 2, 1e-3, start)


def test_labels_of_any_integer_type_give_the_same_probe() -> None:
    rows, labels = clusters(40, 4, 2.0, 1)
    wanted = fit_probe(rows, labels, 4, 1e-3)
    for kind in (torch.int32, torch.uint8):
        assert torch.equal(fit_probe(rows, labels.to(kind), 4, 1e-3).weight, wanted.weight)


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [
        (slice(0), slice(None), r"train\[0\] has 0 rows; 1 are needed"),
        (slice(None), slice(0), r"validation\[0\] has 0 rows; 1 are needed"),
    ],
)
def test_selection_needs_both_sets(train: slice, validation: slice, words: str) -> None:
    rows, labels = clusters(20, 2, 0.1, 1)
    with pytest.raises(ValueError, match=words):
        select_probe((rows[train], labels[train]), (rows[validation], labels[validation]), 2)


def test_selection_needs_sets_of_one_width_and_label_space() -> None:
    rows, labels = clusters(20, 2, 0.1, 1)
    for validation, words in (
        ((rows[:, :4], labels), r"validation\[0\] has 4 columns, and train\[0\] 10: give"),
        ((rows, labels + 1), r"validation\[1\] holds 2, .*classes=2"),
        ((rows, labels[:1]), r"validation\[1\] has 1 entries, and validation\[0\] 20 rows"),
        ((rows / 0, labels), r"validation\[0\] holds NaN or Inf"),
    ):
        with pytest.raises(ValueError, match=words):
            select_probe((rows, labels), validation, 2)
    with pytest.raises(TypeError, match="validation is a Tensor, and must be a pair"):
        select_probe((rows, labels), rows, 2)  # type: ignore[arg-type]


def test_a_probe_refuses_other_features_and_labels_than_its_own() -> None:
    rows, labels = clusters(20, 2, 0.1, 1)
    probe = fit_probe(rows, labels, 2, 1e-3)
    assert probe.logits(rows[:0]).shape == (0, 2)
    for features, given, words in (
        (rows[:, :4], labels, "features has 4 columns, and the probe's weight 10: give features"),
        (rows[:0], labels[:0], "features has 0 rows; 1 are needed"),
        (rows, labels[:1], "labels has 1 entries, and features 20 rows: give one label a row"),
    ):
        with pytest.raises(ValueError, match=words):
            probe.accuracy(features, given)
