"""Accumulated micro-batches give the step of one big batch; callbacks fire in order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training import EWC, Cumulative, JointTraining, LwF, Naive, Replay
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import EfficientNaive, EfficientTraining, FDAPlugin, L2SPPlugin, LPFTPlugin
from tests.methods import ON_GRAPH, PLUGINS, WITH_CACHE, accepted
from tests.plugins.toys import Blobs, Growing, Plain, classic, learn, modern, same, strategy
from tests.strategies.common import Smooth, Wide, acting, one_experience, trained


def close(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("micro", [10, 8, 7], ids=["halves", "8+8+4", "7+7+6"])
@pytest.mark.parametrize("method", [None, "ldifs", "lwf", "l2sp", "digrap", "wise-ft"])
def test_equals_one_batch(method: str | None, micro: int) -> None:
    """Means over samples, terms on weights and methods on gradients, uneven parts too.

    The last step has 10 samples, so fewer micro-batches.
    """

    def own() -> list[Any]:
        return [] if method is None else [acting(method)]

    data, parts = Wide(50), -(-20 // micro)
    # a loader cuts an epoch into even pieces, so pieces of the big batch are given by hand
    bounds = [b for start in (0, 20, 40) for b in range(start, min(start + 20, 50), micro)]
    pieces = [list(range(a, b)) for a, b in zip(bounds, [*bounds[1:], 50], strict=True)]

    class Pieces(SupervisedPlugin[Any]):
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            strategy.dataloader = torch.utils.data.DataLoader(
                strategy.adapted_dataset, batch_sampler=pieces
            )

    whole, one = trained(Smooth().double(), *own(), data=data, epochs=3)
    split, many = trained(
        Smooth().double(), Pieces(), *own(), data=data, epochs=3, accumulate=parts
    )
    assert len(one.gradients) == len(many.gradients) == 9
    for a, b in zip(one.gradients, many.gradients, strict=True):
        close(a, b)
    close(whole.model.state_dict(), split.model.state_dict())


def test_the_decay_towards_anchors_is_not_counted_by_micro_batches() -> None:
    """The comparison above would miss a wrong factor if the term had no gradient."""
    _, one = trained(Smooth().double(), L2SPPlugin(5.0), data=Wide(60), epochs=2)
    _, none = trained(Smooth().double(), data=Wide(60), epochs=2)
    name = "backbone.1.weight"
    assert not torch.allclose(one.gradients[-1][name], none.gradients[-1][name], rtol=1e-2)


@pytest.mark.parametrize("method", ["ldifs", "lwf", "l2sp"])
def test_logged_means_and_the_loss_stay_those_of_the_batches(method: str) -> None:
    """Terms are logged unscaled; equal parts give the mean of the whole batch."""
    whole, _ = trained(Smooth().double(), acting(method), data=Wide(60))
    split, _ = trained(Smooth().double(), acting(method), data=Wide(60), batch=5, accumulate=4)
    ours, theirs = (s.evaluator.get_last_metrics() for s in (split, whole))
    terms = [k for k in theirs if "_Epoch/train_phase" in k and "Acc" not in k]
    assert terms and all(theirs[k] > 0 for k in terms)
    assert {k: ours[k] for k in terms} == pytest.approx({k: theirs[k] for k in terms}, rel=1e-6)


@pytest.mark.parametrize("method", [None, "fda", "proxy-fda", "digrap", "lp-ft"])
def test_the_defaults_change_no_bit(method: str | None) -> None:
    def own() -> list[Any]:
        return [] if method is None else [acting(method)]

    kinds = Naive, EfficientNaive
    plain, ours = (trained(Plain(), *own(), kind=k, adam=True, epochs=2)[0] for k in kinds)
    assert same(plain.model.state_dict(), ours.model.state_dict())
    assert plain.evaluator.get_last_metrics() == ours.evaluator.get_last_metrics()


@pytest.mark.parametrize("method", PLUGINS)
def test_every_plugin_accumulates(method: str) -> None:
    own = acting(method, **accepted(method, teacher_cache="off"))
    made, seen = trained(Smooth(), own, batch=12, accumulate=2, epochs=2, adam=True)
    assert all(v.isfinite().all() for v in made.model.state_dict().values())
    step = ["batch", "batch", "update", "updated"]
    assert seen.calls == 2 * (2 * step + ["batch", "update", "updated"])
    assert seen.pending == 2 * [1, 0, 1, 0, 0]
    assert all(value == value for value in made.evaluator.get_last_metrics().values())
    if method in WITH_CACHE:
        prototypes = method in ON_GRAPH  # one pass for hard-class batches
        assert own.teacher_forwards == made.clock.train_iterations + prototypes == 10 + prototypes


def test_a_plugins_own_optimizer_gets_the_mean_gradient_of_the_micro_batches() -> None:
    """The plugin steps once for all micro-batches, and no micro-batch drops gradients."""

    def slopes(data: Any, accumulate: int) -> list[torch.Tensor]:
        # the fitted start of each part would be another one
        own = FDAPlugin(num_neighbors=4, hard_class_batches=False, start="siglip")
        _, seen = trained(Smooth(), own, data=data, batch=10, accumulate=accumulate)
        assert len(seen.own) == 1  # one step
        return seen.own[0]

    class Part(Blobs):
        def __init__(self, first: int) -> None:
            super().__init__(20)
            self.images = self.images[first : first + 10]
            self.targets = self.targets[first : first + 10]

    both = slopes(Blobs(20), 2)
    first, second = slopes(Part(0), 1), slopes(Part(10), 1)
    assert len(both) == 2
    for ours, a, b in zip(both, first, second, strict=True):
        torch.testing.assert_close(ours, (a + b) / 2)
        assert not torch.allclose(ours, b, rtol=1e-4)


def test_frozen_steps_of_lp_ft_are_optimizer_steps() -> None:
    """Half of the 6 steps, not half of the 12 micro-batches."""
    own = LPFTPlugin(l2=0.1, freeze_share=0.5)
    _, seen = trained(Smooth(), own, batch=10, epochs=2, accumulate=2)
    assert len(seen.gradients) == 6

    class Live(SupervisedPlugin[Any]):
        def __init__(self) -> None:
            super().__init__()
            self.grads: list[bool] = []

        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            self.grads.append(strategy.model.classifier.weight.grad is not None)

    live = Live()
    trained(Smooth(), LPFTPlugin(l2=0.1, freeze_share=0.5), live, batch=10, epochs=2, accumulate=2)
    assert live.grads == [False] * 3 + [True] * 3


def test_a_stop_takes_effect_after_the_step() -> None:
    class Stop(SupervisedPlugin[Any]):
        def after_forward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.stop_training()

    _, seen = trained(Smooth(), Stop(), batch=10, accumulate=2)
    assert seen.calls == ["batch", "batch", "update", "updated"]


def test_a_broken_off_step_leaves_nothing_to_the_next() -> None:
    class Break(SupervisedPlugin[Any]):
        armed = True

        def after_backward(self, strategy: Any, **kwargs: Any) -> None:
            if self.armed:
                raise KeyboardInterrupt

    breaks, own = Break(), FDAPlugin(num_neighbors=4, teacher="initial")
    made = strategy(Smooth(), own, breaks, kind=EfficientNaive, accumulate=2, train_mb_size=10)
    experience = one_experience(Blobs(60))
    with pytest.raises(KeyboardInterrupt):
        made.train(experience, eval_streams=[])
    assert own.optimizer.param_groups[0]["params"][0].grad is not None
    breaks.armed, seen = False, []

    class First(SupervisedPlugin[Any]):
        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            held = [*strategy.model.parameters(), *own.optimizer.param_groups[0]["params"]]
            if strategy.pending_micro_batches == 0:
                seen.append(all(p.grad is None for p in held))

    made.plugins.insert(0, First())
    made.train(experience, eval_streams=[])
    assert seen == [True] * 3 and made.pending_micro_batches == 0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Replay, {"mem_size": 20}),
        (LwF, {"alpha": 1.0, "temperature": 2.0}),
        (Cumulative, {}),
        (EWC, {"ewc_lambda": 0.1}),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.filterwarnings("ignore:hard_class_batches gives way")
@pytest.mark.filterwarnings("ignore:num_neighbors=4 is clamped")
def test_other_strategies(kind: Any, options: dict[str, Any], precision: str) -> None:
    class Efficient(EfficientTraining, kind):  # type: ignore[misc, valid-type]
        pass

    own = FDAPlugin(num_neighbors=4)
    more = {"precision": precision, "accumulate": 2, **options}
    made = strategy(Growing(), own, kind=Efficient, **more)
    state = learn(made, classic(2))
    assert all(v.isfinite().all() for v in state.values())
    assert own.teacher_forwards == made.clock.train_iterations > 5


def test_joint_training() -> None:
    class Efficient(EfficientTraining, JointTraining):
        pass

    made = strategy(Plain(), kind=Efficient, precision="bf16", accumulate=2)
    made.train(modern(2).train_stream, eval_streams=[])
    assert made.clock.train_iterations == 5 and made.pending_micro_batches == 0
    made.eval(modern(2).test_stream)
    assert made.mb_output is None


def test_evaluation_within_a_step_leaves_the_gradients_alone() -> None:
    """Avalanche may evaluate after any iteration, so between two micro-batches too."""
    experience = one_experience(Blobs(60))

    def run(**options: Any) -> dict[str, torch.Tensor]:
        made = strategy(Smooth(), kind=EfficientNaive, accumulate=3, train_mb_size=10, **options)
        made.train(experience, eval_streams=[experience], shuffle=False)
        return made.model.state_dict()

    assert same(run(), run(eval_every=1, peval_mode="iteration"))
