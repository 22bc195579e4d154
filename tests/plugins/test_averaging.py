"""Trajectory averaging in a strategy: what is shipped, steps that count, heads, buffers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import AveragingPlugin, EfficientNaive, MagMaxPlugin, WiSEFTPlugin
from tests.plugins.toys import Growing, Plain, classic, same, strategy
from tests.reference.average import mean_of, moving_average

State = dict[str, Tensor]


class Path(SupervisedPlugin[Any]):
    """The model at the start of each experience, and after each optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        self.start: list[State] = []
        self.steps: list[list[State]] = []

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.start.append(copy.deepcopy(strategy.model.state_dict()))
        self.steps.append([])

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        self.steps[-1].append(copy.deepcopy(strategy.model.state_dict()))


def run(own: Any, model: Any = None, experiences: int = 2, **options: Any) -> tuple[Path, State]:
    path = Path()
    trained = strategy(model or Plain(), path, own, **options)
    for experience in classic(experiences).train_stream:
        trained.train(experience, eval_streams=[])
    return path, trained.model.state_dict()


def flat(state: State, name: str) -> list[float]:
    return state[name].double().flatten().tolist()


@pytest.mark.parametrize(("decay", "every"), [(0.8, 1), (None, 1), (None, 3)])
def test_the_average_is_shipped_and_the_next_experience_starts_from_it(
    decay: float | None, every: int
) -> None:
    path, final = run(AveragingPlugin(decay, every=every), train_mb_size=8)
    assert [len(s) for s in path.steps] == [8, 8]
    shipped = [path.start[1], final]
    for start, steps, end in zip(path.start, path.steps, shipped, strict=True):
        taken = steps[every - 1 :: every]
        for name in end:
            if "num_batches" in name:
                continue
            values = [flat(state, name) for state in taken]
            first = flat(start, name)
            expected = (
                mean_of(first, values) if decay is None else moving_average(first, values, decay)
            )
            assert flat(end, name) == pytest.approx(expected, abs=1e-5), name
        assert not torch.equal(end["classifier.weight"], steps[-1]["classifier.weight"])


@pytest.mark.parametrize("options", [{"buffers": "tuned"}, {"include_head": False}])
def test_buffers_and_head_of_training_can_stay(options: Any) -> None:
    path, final = run(AveragingPlugin(0.9, **options), experiences=1)
    last = path.steps[0][-1]
    kept = {n for n in final if torch.equal(final[n], last[n])}
    stays = "running" if "buffers" in options else "classifier"
    expected = {n for n in final if stays in n} | {n for n in final if "num_batches" in n}
    assert kept - {"backbone.1.bias"} == expected  # batch normalisation takes its gradient away


def test_the_average_can_begin_at_the_initial_weights() -> None:
    path, final = run(AveragingPlugin(0.8, anchor="initial"))
    name, head = "backbone.5.weight", "classifier.bias"
    for each, start in ((name, path.start[0]), (head, path.start[1])):
        values = [flat(state, each) for state in path.steps[1]]
        expected = moving_average(flat(start, each), values, 0.8)
        assert flat(final, each) == pytest.approx(expected, abs=1e-5)


def test_a_growing_head_is_averaged_from_where_it_starts() -> None:
    path, final = run(AveragingPlugin(0.5), Growing(), experiences=3)
    name = "classifier.classifier.weight"
    values = [flat(state, name) for state in path.steps[2]]
    expected = moving_average(flat(path.start[2], name), values, 0.5)
    assert len(final[name]) == 6 and flat(final, name) == pytest.approx(expected, abs=1e-5)


def test_optimizer_steps_count_and_not_micro_batches() -> None:
    own, counts = AveragingPlugin(None, every=2), []

    class Look(SupervisedPlugin[Any]):
        def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            counts.append((own.average.steps, own.average.count))

    trained = strategy(Plain(), own, Look(), kind=EfficientNaive, accumulate=2, train_mb_size=8)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert counts == [(4, 2)] and own.average is None


@pytest.mark.parametrize("other", [WiSEFTPlugin(), MagMaxPlugin()])
def test_after_a_plugin_that_writes_the_model_it_is_refused(other: Any) -> None:
    """The average would replace the weights that the other plugin has merged."""
    name = type(other).__name__
    with pytest.raises(ValueError, match=rf"replace the weights of {name}: put AveragingPlugin b"):
        strategy(Plain(), other, AveragingPlugin()).train(classic(1).train_stream[0])


def test_wise_ft_after_it_interpolates_the_average() -> None:
    name, ends = "backbone.5.weight", []
    for plugins in ([], [WiSEFTPlugin(0.25)]):
        torch.manual_seed(0)
        model = Plain(dropout=0.0)
        start = model.state_dict()[name].clone()
        trained = strategy(model, AveragingPlugin(0.8), *plugins)
        trained.train(classic(1).train_stream[0], eval_streams=[])
        ends.append(model.state_dict()[name])
    torch.testing.assert_close(ends[1], 0.75 * start + 0.25 * ends[0])


def test_bad_options() -> None:
    for make in (AveragingPlugin, WiSEFTPlugin, MagMaxPlugin):
        with pytest.raises(TypeError, match="include_head='no' must be True or False"):
            make(include_head="no")
    with pytest.raises(ValueError, match=r"decay=1.0 must lie in \[0, 1\)"):
        AveragingPlugin(1.0)
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        AveragingPlugin(every=0)
    with pytest.raises(ValueError, match="buffers='anchor' is unknown"):
        AveragingPlugin(buffers="anchor")  # type: ignore[arg-type]


def test_without_a_snapshot_the_weights_of_training_stay_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="has 5 steps, and every=100 takes no snapshot"):
        path, final = run(AveragingPlugin(None, every=100), experiences=1)
    assert len(path.steps[0]) == 5 and same(final, path.steps[0][-1])


def test_half_precision_weights_are_averaged_in_float32_and_shipped_in_their_own() -> None:
    own = AveragingPlugin(0.9)
    model = Plain().to(torch.bfloat16)
    trained = strategy(model, own)
    benchmark, seen = classic(1), []

    class Look(SupervisedPlugin[Any]):
        def after_update(self, strategy: Any, **kwargs: Any) -> None:
            assert own.average is not None
            seen.append({value.dtype for value in own.average.tensors.values()})

        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.mbatch[0] = strategy.mb_x.to(torch.bfloat16)

        def before_eval_forward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.mbatch[0] = strategy.mb_x.to(torch.bfloat16)

    trained.plugins.append(Look())
    trained.train(benchmark.train_stream[0], eval_streams=[])
    assert seen and all(dtypes == {torch.float32, torch.int64} for dtypes in seen)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
