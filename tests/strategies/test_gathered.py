"""``graph_from="accumulated"``: the terms of one big batch, at micro-batches' memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import EfficientNaive, FDAPlugin, RKDPlugin
from avalanche_proxyfda.strategies import efficient
from tests.methods import ON_EMBEDDING, PLUGINS, accepted, toy_plugin, toy_plugins
from tests.plugins.toys import Blobs, same, strategy
from tests.strategies.common import Smooth, Wide, one_experience, trained

PAIRWISE = (*ON_EMBEDDING, "fda-learns", "proxy-fda-chunks", "rift-learned")
FIXED = {"fda": {"learnable": False, "weight": 3.0}}
"""FDA without parameters of its own, so that only rounding differs."""
ROUNDING = {"rtol": 1e-10, "atol": 1e-13}
SINGLE = {"rtol": 1e-4, "atol": 1e-7}  # τ, b, the generator and Q are float32


def pairwise(name: str, **options: Any) -> Any:
    """Return a toy plugin whose batches are in the order of the data.

    Its generator has the size for 20 samples, whatever the strategy says of its batches.
    """
    size = {} if name == "soft-fda" else {"max_proxies": 8}  # soft-fda has no proxies here
    given = accepted(name, hard_class_batches=False, **size) | FIXED.get(name, {})
    return toy_plugin(name, **(given | options))


@pytest.mark.parametrize("micro", [10, 7], ids=["10+10", "7+7+6"])
@pytest.mark.parametrize("method", PAIRWISE)
def test_equals_one_big_batch(method: str, micro: int) -> None:
    parts = -(-20 // micro)
    pieces = [
        list(range(b, min(b + micro, s + 20))) for s in (0, 20, 40) for b in range(s, s + 20, micro)
    ]

    class Pieces(SupervisedPlugin[Any]):
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            strategy.dataloader = torch.utils.data.DataLoader(
                strategy.adapted_dataset, batch_sampler=pieces
            )

    data = Wide(60)
    whole, one = trained(Smooth().double(), pairwise(method), data=data, epochs=2)
    own = pairwise(method, graph_from="accumulated")
    split, many = trained(Smooth().double(), Pieces(), own, data=data, epochs=2, accumulate=parts)
    exact = SINGLE if own.learned() else ROUNDING
    assert len(one.gradients) == len(many.gradients) == 6
    for a, b in zip(one.gradients, many.gradients, strict=True):
        for name in a:
            torch.testing.assert_close(b[name], a[name], **exact)
    for xs, ys in zip(one.own, many.own, strict=True):
        assert len(xs) == len(ys)
        for x, y in zip(xs, ys, strict=True):
            torch.testing.assert_close(y, x, **SINGLE)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(split.model.state_dict()[name], value, **exact)
    ours, theirs = (s.evaluator.get_last_metrics() for s in (split, whole))
    terms = [k for k in theirs if "_Epoch/train_phase" in k and "Acc" not in k]
    assert terms and {k: ours[k] for k in terms} == pytest.approx(
        {k: theirs[k] for k in terms}, rel=1e-5
    )


def test_it_is_another_graph_than_that_of_micro_batches() -> None:
    found = [
        trained(
            Smooth().double(),
            pairwise("fda", graph_from=choice),
            data=Wide(60),
            batch=10,
            accumulate=2,
        )[1].gradients[0]["backbone.1.weight"]
        for choice in ("micro-batch", "accumulated")
    ]
    assert (found[0] - found[1]).norm() > 0.02 * found[1].norm()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_second_forward_repeats_the_first_and_leaves_no_trace(precision: str) -> None:
    """With λ = 0 the look-ahead changes neither dropout's draws nor batch statistics.

    Batches are mined on the stored features, so both ways must also store the same. A fitted start
    would differ, as it sees one micro-batch or both.
    """
    states = [
        trained(
            Smooth(dropout=0.4, norm=True),
            FDAPlugin(weight=0.0, num_neighbors=4, graph_from=g, start="siglip"),
            batch=12,
            accumulate=2,
            epochs=3,
            precision=precision,
        )[0].model.state_dict()
        for g in ("micro-batch", "accumulated")
    ]
    assert same(*states)


def test_dropout_and_batch_norm_against_graphs_that_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gradient is that of one loss through the graphs of all micro-batches at once."""
    data, noted = Wide(20), []
    look = efficient.look_ahead

    def looked(*args: Any) -> Any:
        noted.append(look(*args))
        return noted[-1]

    monkeypatch.setattr(efficient, "look_ahead", looked)
    own = pairwise("fda", graph_from="accumulated")
    model = Smooth(dropout=0.4, norm=True).double()
    _, seen = trained(model, own, data=data, batch=10, accumulate=2)
    again = Smooth(dropout=0.4, norm=True).double().train()
    images, labels = data.images, torch.tensor(data.targets)
    rows, total = [], torch.zeros((), dtype=torch.float64)
    for state, part in zip(noted[0], range(2), strict=True):
        chosen = slice(10 * part, 10 * part + 10)
        with state.again():
            made = again.backbone(images[chosen])
        rows.append(made)
        total = total + nn.functional.cross_entropy(again.classifier(made), labels[chosen]) / 2
    fixed = Smooth(norm=True).double().eval().backbone
    loss = total + 3.0 * own.loss(torch.cat(rows), fixed(images))
    loss.backward()
    for name, parameter in again.named_parameters():
        torch.testing.assert_close(seen.gradients[0][name], parameter.grad, **ROUNDING)


class Kept:
    """A tensor that is kept for backward; counts while it lives."""

    live = peak = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.bytes = tensor, tensor.nbytes
        Kept.live += self.bytes
        Kept.peak = max(Kept.peak, Kept.live)

    def __del__(self) -> None:
        Kept.live -= self.bytes


@contextmanager
def counted_bytes() -> Iterator[None]:
    Kept.live = Kept.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield


def test_forwards_and_bytes() -> None:
    """A micro-batch costs one more student forward and no teacher forward; memory is bounded."""

    def run(**options: Any) -> tuple[int, int, Any, Any]:
        model, calls = Smooth(), []
        own = FDAPlugin(
            num_neighbors=4,
            hard_class_batches=False,
            graph_from=options.pop("graph", "micro-batch"),
        )
        model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
        # a deeper model, so that activations outweigh the loss's
        model.backbone[3] = nn.Sequential(
            *[
                part
                for _ in range(4)
                for part in (nn.Linear(12, 256), nn.Tanh(), nn.Linear(256, 12))
            ]
        )
        with counted_bytes():
            made, _ = trained(model, own, data=Blobs(64), **options)
        return len(calls), Kept.peak, made, own

    whole, most, _, _ = run(batch=64)
    calls, peak, made, own = run(batch=16, accumulate=4, graph="accumulated")
    assert (whole, calls) == (1, 8) and made.extra_forwards == own.teacher_forwards == 4
    parts, least, made, own = run(batch=16, accumulate=4)
    assert parts == 4 and made.extra_forwards == 0 and own.teacher_forwards == 4
    assert peak < most / 2 and peak < 1.3 * least


def test_plugins_share_the_look_ahead_and_others_go_on_as_ever() -> None:
    accumulated = {"graph_from": "accumulated"}
    plugins = toy_plugins({"fda": accumulated, "rkd": accumulated, "rift": {}, "ldifs": {}})
    made, seen = trained(Smooth(), *plugins, batch=12, accumulate=2, epochs=2)
    # the fifth batch of an epoch is alone in its step: there is nothing to gather
    assert made.extra_forwards == 8 and made.clock.train_iterations == 10
    assert len(seen.gradients) == 6
    metrics = made.evaluator.get_last_metrics()
    for name in ("FDA_alignment", "RKD_relations", "RIFT_covariance", "LDIFS_distance"):
        assert metrics[f"{name}_Epoch/train_phase/train_stream"] > 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", ["fda-learns", "proxy-fda", "rkd", "rift", "rift-learned"])
def test_lower_precision(method: str, precision: str) -> None:
    own = pairwise(method, graph_from="accumulated")
    made, seen = trained(
        Smooth(dropout=0.2), own, batch=10, accumulate=2, epochs=2, precision=precision
    )
    assert all(v.isfinite().all() for v in made.model.state_dict().values())
    assert len(seen.gradients) + made.skipped_updates == 6 and made.skipped_updates <= 2
    other = trained(Smooth(), pairwise(method), batch=20)[1].gradients[0]
    ours = trained(
        Smooth(),
        pairwise(method, graph_from="accumulated"),
        batch=10,
        accumulate=2,
        precision="bf16",
    )[1].gradients[0]
    assert all((ours[n] - g).norm() < 0.06 * g.norm() + 1e-4 for n, g in other.items())


def test_neighbours_are_of_the_whole_step() -> None:
    """K may exceed the micro-batch; an unknown choice is refused."""
    own = FDAPlugin(num_neighbors=14, hard_class_batches=False, graph_from="accumulated")
    _, seen = trained(Smooth(), own, batch=10, accumulate=2)
    assert len(seen.gradients) == 3
    small = FDAPlugin(num_neighbors=14, hard_class_batches=False)
    with pytest.raises(ValueError, match=r"num_neighbors=14 must be below the training batch"):
        trained(Smooth(), small, batch=10, accumulate=2)
    for method in ON_EMBEDDING:
        with pytest.raises(ValueError, match=r"graph_from='all' is unknown; choose one of"):
            toy_plugin(method, graph_from="all")


def test_no_method_is_taken_for_a_callback() -> None:
    """Avalanche warns of methods whose names begin as its callbacks do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*implements incompatible callbacks")
        strategy(Smooth(), *map(toy_plugin, PLUGINS), kind=EfficientNaive)


def test_a_strategy_that_does_not_look_ahead() -> None:
    with pytest.raises(ValueError, match=r"needs a strategy that accumulates: EfficientNaive"):
        trained(Smooth(), RKDPlugin(graph_from="accumulated"))


def test_a_batch_that_changes_in_between() -> None:
    class MixUp(SupervisedPlugin[Any]):
        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.mbatch[0] = (strategy.mb_x + strategy.mb_x.flip(0)) / 2

    with pytest.raises(ValueError, match=r"features came out otherwise when its forward ran again"):
        trained(Smooth(), MixUp(), RKDPlugin(graph_from="accumulated"), batch=10, accumulate=2)


def test_a_step_that_was_broken_off_is_forgotten() -> None:
    class Break(SupervisedPlugin[Any]):
        armed = True

        def after_backward(self, strategy: Any, **kwargs: Any) -> None:
            if self.armed:
                raise KeyboardInterrupt

    breaks, own = Break(), RKDPlugin(graph_from="accumulated")
    made = strategy(Smooth(), own, breaks, kind=EfficientNaive, accumulate=2, train_mb_size=10)
    experience = one_experience(Blobs(60))
    with pytest.raises(KeyboardInterrupt):
        made.train(experience, eval_streams=[])
    breaks.armed = False
    made.train(experience, eval_streams=[])
    assert made.clock.train_iterations == 6 and not own._gathered.ready
