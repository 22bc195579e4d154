"""AdamSPD in a strategy: optimizers, accumulation, skipped steps, the wall at weight 1."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import AdamSPDPlugin, AveragingPlugin, EfficientNaive, RKDPlugin
from tests.plugins.toys import Growing, Plain, classic, learn, same, strategy


class Look(SupervisedPlugin[Any]):
    """Distances of the encoder's tensors from their anchors around each optimizer step.

    One instance stands before the plugin in the list, and one after it.
    """

    def __init__(self, own: AdamSPDPlugin) -> None:
        super().__init__()
        self.own = own
        self.earlier: list[torch.Tensor] = []
        self.later: list[torch.Tensor] = []
        self.away: list[torch.Tensor] = []

    def _distances(self) -> torch.Tensor:
        pairs = zip(self.own.weights, self.own.anchors, strict=True)
        return torch.stack([(w.detach() - a).norm() for w, a in pairs])

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        self.earlier.append(self._distances())
        triples = [
            (w.grad, w.detach() - a)
            for w, a in zip(self.own.weights, self.own.anchors, strict=True)
        ]
        self.away.append(torch.stack([(g * d).sum() > 0 for g, d in triples]))

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        self.later.append(self._distances())


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_selected_tensors_do_not_leave_at_weight_one(kind: Any, accumulate: int) -> None:
    torch.manual_seed(0)
    own, model = AdamSPDPlugin(), Plain()
    look = Look(own)
    trained = strategy(
        model,
        own,
        look,
        kind=EfficientNaive,
        accumulate=accumulate,
        train_mb_size=8,
        train_epochs=3,
    )
    trained.optimizer = kind(model.parameters(), lr=3e-2)
    learn(trained, classic(2))
    before, after, away = (torch.stack(v) for v in (look.earlier, look.later, look.away))
    assert len(before) == len(after) == (48 if accumulate == 1 else 18)
    grown = after > before * (1 + 1e-5)
    assert not (grown & away).any() and (grown & ~away).any() and away.any()
    metrics = trained.evaluator.get_last_metrics()
    for name in ("ratio", "selected"):
        assert 0 < metrics[f"AdamSPD_{name}_Epoch/train_phase/train_stream"] < 1


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_weight_zero_is_the_optimizer_bit_for_bit(precision: Any) -> None:
    """With fp16, the first scale of the loss is too large, so the first steps are skipped."""
    finals = []
    for plugins in ([], [AdamSPDPlugin(0.0)], [AdamSPDPlugin(1.0)]):
        torch.manual_seed(0)
        options = {"adam": True, "precision": precision, "accumulate": 2, "train_epochs": 6}
        made = strategy(Growing(), *plugins, kind=EfficientNaive, **options)
        if made.scaler is not None:
            made.scaler.load_state_dict({**made.scaler.state_dict(), "scale": 2.0**20})
        finals.append((learn(made, classic(2)), made.skipped_updates))
    assert same(finals[0][0], finals[1][0]) and not same(finals[0][0], finals[2][0])
    assert len({skipped for _, skipped in finals[:2]}) == 1
    assert (finals[0][1] > 0) is (precision == "fp16")


def test_a_broken_off_step_is_forgotten() -> None:
    class Break(SupervisedPlugin[Any]):
        armed = True

        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            if self.armed:
                raise KeyboardInterrupt

    own, breaks = AdamSPDPlugin(), Break()
    trained, benchmark = strategy(Plain(), own, breaks, adam=True), classic(1)
    with pytest.raises(KeyboardInterrupt):
        trained.train(benchmark.train_stream[0], eval_streams=[])
    assert own.decay._pairs is not None
    own.stop()
    assert own.decay.after_step() == {}


@pytest.mark.parametrize("other", [AveragingPlugin(), RKDPlugin(teacher="averaged")])
def test_after_a_plugin_that_follows_the_weights_it_is_refused(other: Any) -> None:
    """The average would take weights of steps that are not shortened yet."""
    experience, name = classic(1).train_stream[0], type(other).__name__
    trained = strategy(Plain(), other, AdamSPDPlugin(), adam=True)
    with pytest.raises(ValueError, match=rf"{name} averages .* put AdamSPDPlugin before it"):
        trained.train(experience, eval_streams=[])
    strategy(Plain(), AdamSPDPlugin(), copy.deepcopy(other), adam=True).train(experience)


def test_other_optimizers_are_refused_with_the_remedy() -> None:
    trained = strategy(Plain(), AdamSPDPlugin())
    with pytest.raises(
        TypeError, match=r"the optimizer is SGD: take torch\.optim\.AdamW, or any_opt"
    ):
        trained.train(classic(1).train_stream[0], eval_streams=[])
    own = AdamSPDPlugin(any_optimizer=True)
    learn(strategy(Plain(), own), classic(1))
    with pytest.raises(TypeError, match="any_optimizer=1 must be True or False"):
        AdamSPDPlugin(any_optimizer=1)  # type: ignore[arg-type]
