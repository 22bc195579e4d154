"""MagMax in a strategy: shipped and tuned weights, files, resume."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import L2SPPlugin, MagMaxPlugin, WiSEFTPlugin
from avalanche_proxyfda.weights.task_vectors import largest, read_vectors
from tests.plugins.toys import Growing, Plain, classic, same, strategy
from tests.reference.magmax import merged

State = dict[str, Tensor]


class Ends(SupervisedPlugin[Any]):
    """The model as each experience begins to train, and as training leaves it."""

    def __init__(self) -> None:
        super().__init__()
        self.start: list[State] = []
        self.tuned: list[State] = []

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.start.append(copy.deepcopy(strategy.model.state_dict()))

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.tuned.append(copy.deepcopy(strategy.model.state_dict()))


def run(*plugins: Any, model: Any = None, experiences: int = 3) -> tuple[Ends, list[State]]:
    """Train on experiences; return the ends, and the shipped states."""
    torch.manual_seed(0)
    ends, shipped = Ends(), []
    trained = strategy(model or Plain(), ends, *plugins)
    for experience in classic(experiences).train_stream:
        trained.train(experience, eval_streams=[])
        shipped.append(copy.deepcopy(trained.model.state_dict()))
    return ends, shipped


def is_encoder(name: str) -> bool:
    return name.startswith("backbone")


@pytest.mark.parametrize("buffers", ["merge", "tuned"])
def test_shipped_weights_equal_the_loops_and_training_is_the_plain_one(buffers: Any) -> None:
    plain, _ = run()
    ends, shipped = run(MagMaxPlugin(0.7, buffers=buffers))
    assert all(same(a, b) for a, b in zip(plain.tuned, ends.tuned, strict=True))
    assert all(same(a, b) for a, b in zip(ends.start[1:], ends.tuned, strict=False))
    given = ends.start[0]
    for t, state in enumerate(shipped):
        for name, value in state.items():
            last = ends.tuned[t][name]
            kept = "num_batches" in name or ("running" in name and buffers == "tuned")
            if not is_encoder(name) or kept:
                assert torch.equal(value, last), name
                continue
            tuned = [ends.tuned[k][name].double().flatten().tolist() for k in range(t + 1)]
            expected = merged(given[name].double().flatten().tolist(), tuned, 0.7)
            assert value.double().flatten().tolist() == pytest.approx(expected, abs=1e-6), name
    assert not same(shipped[2], ends.tuned[2])


def test_the_changes_of_each_experience_by_itself() -> None:
    own = MagMaxPlugin(1.0, anchor="previous", buffers="tuned")
    ends, shipped = run(own, experiences=2)
    name = "backbone.5.weight"
    one, two = (ends.tuned[k][name] - ends.start[k][name] for k in (0, 1))
    expected = ends.start[0][name] + torch.where(two.abs() >= one.abs(), two, one)
    torch.testing.assert_close(shipped[1][name], expected)
    assert own.reference is None and own.tasks == 2


def test_changes_of_variances_are_not_merged_experience_by_experience() -> None:
    with pytest.raises(ValueError, match=r"negative, such as backbone\S+running_var: .*'tuned'"):
        run(MagMaxPlugin(0.5, anchor="previous"))
    for anchor, buffers in (("previous", "tuned"), ("initial", "merge")):
        own = MagMaxPlugin(1.0, anchor=anchor, buffers=buffers)  # type: ignore[arg-type]
        _, shipped = run(own)
        for state in shipped:
            assert all(bool((v > 0).all()) for n, v in state.items() if n.endswith("running_var"))


def test_other_plugins_take_anchors_from_the_weights_that_training_goes_on_from() -> None:
    anchors: list[Tensor] = []

    class Look(SupervisedPlugin[Any]):
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            anchors.append(dict(zip(other.names, other.anchors, strict=True))["backbone.1.weight"])

    other = L2SPPlugin(0.1)
    ends, _ = run(other, Look(), MagMaxPlugin(0.5), experiences=2)
    assert torch.equal(anchors[1], ends.tuned[0]["backbone.1.weight"])


@pytest.mark.parametrize("anchor", ["initial", "previous"])
def test_a_head_that_grows_keeps_its_tuned_weights(anchor: Any) -> None:
    own = MagMaxPlugin(0.5, include_head=True, anchor=anchor, buffers="tuned")
    with pytest.warns(UserWarning, match="MagMax leaves out 2 weights.*classifier"):
        ends, shipped = run(own, model=Growing())
    name = "classifier.classifier.weight"
    assert torch.equal(shipped[2][name], ends.tuned[2][name]) and len(shipped[2][name]) == 6


def test_a_head_that_grows_in_an_evaluation_goes_on_from_its_tuned_weights() -> None:
    benchmark, starts = classic(2), []

    class Look(SupervisedPlugin[Any]):
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            starts.append({k: v.clone() for k, v in strategy.model.state_dict().items()})

    own = MagMaxPlugin(0.5, include_head=True)
    trained = strategy(Growing(), Look(), own)
    trained.train(benchmark.train_stream[0], eval_streams=[])
    tuned = {name: value.clone() for name, value in own._tuned.items()}
    trained.eval(benchmark.test_stream)
    trained.train(benchmark.train_stream[1], eval_streams=[])
    for name in ("classifier.classifier.weight", "classifier.classifier.bias"):
        rows = len(tuned[name])
        assert len(starts[1][name]) > rows and torch.equal(starts[1][name][:rows], tuned[name])


def test_task_vectors_on_disk_merge_to_the_shipped_weights(tmp_path: Path) -> None:
    ends, shipped = run(MagMaxPlugin(0.5, folder=tmp_path), experiences=2)
    vectors = list(read_vectors(tmp_path))
    name = "backbone.1.weight"
    assert len(vectors) == 2
    for vector, tuned in zip(vectors, ends.tuned, strict=True):
        assert torch.equal(vector[name], tuned[name] - ends.start[0][name])
    expected = ends.start[0][name] + 0.5 * largest(vectors)[name]
    torch.testing.assert_close(shipped[1][name], expected)
    with pytest.raises(ValueError, match="holds task vectors of another training: delete them"):
        run(MagMaxPlugin(0.5, folder=tmp_path), experiences=1)


def test_a_state_between_experiences_goes_on_from_the_tuned_weights() -> None:
    benchmark = classic(2)
    finals = []
    for resumed in (False, True):
        torch.manual_seed(0)
        own = MagMaxPlugin(0.5)
        trained = strategy(Plain(dropout=0.0), own)
        trained.train(benchmark.train_stream[0], eval_streams=[], shuffle=False)
        if resumed:
            again, model = MagMaxPlugin(0.5), Plain(seed=5, dropout=0.0)
            again.load_state_dict(copy.deepcopy(own.state_dict()))
            model.load_state_dict(trained.model.state_dict())  # the merged weights
            momentum = trained.optimizer.state_dict()
            trained = strategy(model, again)
            trained.clock.train_exp_counter = 1
            trained.optimizer.load_state_dict(momentum)
            trained.make_optimizer = lambda **kwargs: None  # Avalanche forgets its state
        trained.train(benchmark.train_stream[1], eval_streams=[], shuffle=False)
        finals.append(trained.model.state_dict())
    assert same(*finals)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match=r"scale=1.5 above 1 .*buffers='tuned'"):
        MagMaxPlugin(1.5)
    assert MagMaxPlugin(1.5, buffers="tuned").scale == 1.5
    with pytest.raises(ValueError, match="buffers='anchor' is unknown"):
        MagMaxPlugin(buffers="anchor")  # type: ignore[arg-type]


def test_wise_ft_behind_magmax_is_refused() -> None:
    with pytest.raises(ValueError, match="put WiSEFTPlugin before MagMaxPlugin in plugins"):
        run(MagMaxPlugin(0.5), WiSEFTPlugin(0.5), experiences=1)
    run(WiSEFTPlugin(0.5), MagMaxPlugin(0.5), experiences=1)
