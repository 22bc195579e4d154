"""WiSE-FT in a strategy: end points, buffers, heads that grow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import L2SPPlugin, WiSEFTPlugin
from tests.plugins.toys import Growing, Plain, classic, learn, strategy

State = dict[str, Tensor]


def copied(model: Any) -> State:
    return {k: v.clone() for k, v in model.state_dict().items()}


class Ends(SupervisedPlugin[Any]):
    """The model as an experience begins, and just before and after what follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.start: list[State] = []
        self.tuned: list[State] = []

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        self.start.append(copied(strategy.model))

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.tuned.append(copied(strategy.model))


def run(own: WiSEFTPlugin, model: Any = None, experiences: int = 1) -> tuple[Ends, State]:
    ends = Ends()  # before ours in the list: sees the model that training left
    trained = strategy(model or Plain(), ends, own, train_epochs=2)
    for experience in classic(experiences).train_stream:
        trained.train(experience, eval_streams=[])
    return ends, copied(trained.model)


def is_encoder(name: str) -> bool:
    return name.startswith("backbone")


def test_the_end_points_are_exact() -> None:
    ends, final = run(WiSEFTPlugin(0.0))
    for name, value in final.items():
        assert torch.equal(value, (ends.start if is_encoder(name) else ends.tuned)[0][name]), name
    ends, final = run(WiSEFTPlugin(1.0))
    assert all(torch.equal(final[n], ends.tuned[0][n]) for n in final)
    assert not torch.equal(ends.tuned[0]["backbone.1.weight"], ends.start[0]["backbone.1.weight"])


@pytest.mark.parametrize("buffers", ["interpolate", "tuned", "anchor"])
def test_weights_and_buffers_between(buffers: Any) -> None:
    ends, final = run(WiSEFTPlugin(0.3, buffers=buffers))
    start, tuned = ends.start[0], ends.tuned[0]
    share = {"interpolate": 0.3, "tuned": 1.0, "anchor": 0.0}[buffers]
    for name in ("backbone.1.weight", "backbone.2.bias"):
        torch.testing.assert_close(final[name], 0.7 * start[name] + 0.3 * tuned[name])
    for name in ("backbone.2.running_mean", "backbone.2.running_var"):
        torch.testing.assert_close(final[name], (1 - share) * start[name] + share * tuned[name])
    count = final["backbone.2.num_batches_tracked"]
    assert count == (start if buffers == "anchor" else tuned)["backbone.2.num_batches_tracked"]
    assert torch.equal(final["classifier.weight"], tuned["classifier.weight"])


def test_evaluation_and_the_next_experience_see_the_interpolated_model() -> None:
    ends, final = run(WiSEFTPlugin(0.0), experiences=3)
    first = ends.start[0]
    assert all(torch.equal(s["backbone.5.weight"], first["backbone.5.weight"]) for s in ends.start)
    assert torch.equal(final["backbone.5.weight"], first["backbone.5.weight"])


def test_the_initial_anchor_is_returned_to_from_every_experience() -> None:
    ends, final = run(WiSEFTPlugin(0.5, anchor="initial"), experiences=2)
    name = "backbone.5.weight"
    torch.testing.assert_close(final[name], (ends.start[0][name] + ends.tuned[1][name]) / 2)
    assert not torch.allclose(final[name], (ends.start[1][name] + ends.tuned[1][name]) / 2)


def test_a_head_that_grows_is_interpolated_where_it_fits_and_else_left_out_once() -> None:
    own = WiSEFTPlugin(0.0, anchor="initial", include_head=True)
    with pytest.warns(UserWarning, match="WiSEFT leaves out 2 weights.*classifier") as told:
        ends, final = run(own, Growing(), experiences=3)
    assert len([w for w in told if "leaves out" in str(w.message)]) == 1
    name = "classifier.classifier.weight"
    assert torch.equal(final[name], ends.tuned[2][name]) and len(final[name]) == 6
    ends, final = run(WiSEFTPlugin(0.25, include_head=True))
    expected = 0.75 * ends.start[0]["classifier.bias"] + 0.25 * ends.tuned[0]["classifier.bias"]
    torch.testing.assert_close(final["classifier.bias"], expected)


def test_anchors_are_shared_with_l2sp_and_not_changed_by_the_interpolation() -> None:
    own, other = WiSEFTPlugin(0.5, anchor="initial"), L2SPPlugin(anchor="initial")
    model = Plain()
    given = copied(model)
    learn(strategy(model, other, own), classic(2))
    assert own.anchor is other.anchor and own.anchor is not None
    assert all(torch.equal(value, given[name]) for name, value in own.anchor.tensors.items())
    assert {n for n in given if is_encoder(n)} == set(own.anchor.tensors)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match=r"alpha=1.1 must lie in \[0, 1\]"):
        WiSEFTPlugin(1.1)
    with pytest.raises(ValueError, match="buffers='mean' is unknown"):
        WiSEFTPlugin(buffers="mean")  # type: ignore[arg-type]
