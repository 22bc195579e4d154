"""The teacher's cache in training: it saves forwards and changes no result."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import LwFPlugin, RIFTPlugin, RKDPlugin
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch
from tests.methods import WITH_CACHE, toy_plugin, toy_plugins
from tests.plugins.toys import CLASSES, Blobs, Multi, Plain, classic, learn, modern, same, strategy


class Noise:
    """A random view, drawn from torch's global generator."""

    def __call__(self, image: Tensor) -> Tensor:
        return image + 0.3 * torch.randn(image.shape)


def noisy(experiences: int = 2) -> Any:
    return nc_benchmark(
        Blobs(),
        Blobs(60, seed=1),
        experiences,
        task_labels=False,
        train_transform=Noise(),
        eval_transform=None,
        fixed_class_order=list(range(CLASSES)),
        class_ids_from_zero_from_first_exp=True,
    )


class Look(SupervisedPlugin[Any]):
    """Records teacher forwards of each epoch, and batches and states of each step."""

    def __init__(self, own: Any, states: bool = False) -> None:
        super().__init__()
        self.own, self.states = own, [] if states else None
        self.forwards: list[int] = []
        self.images: list[list[Tensor]] = []
        self.weights: list[Any] = []
        self.vouched: list[bool] = []
        self.about = ""

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.images.append([])

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        batch = strategy.mbatch
        self.vouched.append(isinstance(batch, MarkedBatch) and bool(batch.names_of(batch[0])))
        teacher = self.own.reference
        if teacher is not None and teacher.cache is not None:
            self.about = teacher.cache.about
            self.nbytes = teacher.cache.store.nbytes

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.images[-1].append(strategy.mb_x.clone())
        if self.states is not None:
            self.states.append(copy.deepcopy(self.own.state_dict()))
            self.weights.append(copy.deepcopy(strategy.model.state_dict()))

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.forwards.append(self.own.teacher_forwards)


def trained(own: Any, benchmark: Any, epochs: int = 3, model: Any = Plain, **loading: Any) -> Any:
    torch.manual_seed(0)
    made = strategy(model(), own, train_epochs=epochs)
    learn(made, benchmark, **loading)
    return made


@pytest.mark.parametrize("method", [*WITH_CACHE, "fda-shuffled"])
@pytest.mark.parametrize("benchmark", [classic, modern], ids=["nc", "class_incremental"])
def test_exact_trains_as_a_live_teacher(method: str, benchmark: Any) -> None:
    finals = {}
    for choice in ("off", "exact", "auto"):
        own = toy_plugin(method, teacher_cache=choice)
        finals[choice] = trained(own, benchmark()).model.state_dict()
        assert (own.cache_hits > 0) == (choice != "off")
        assert own.cache_hits <= own.cache_lookups
    for name, value in finals["off"].items():
        torch.testing.assert_close(finals["exact"][name], value, rtol=1e-4, atol=1e-6)
    assert same(finals["exact"], finals["auto"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_known_sample_costs_no_forward(workers: int) -> None:
    own = RKDPlugin(teacher_cache="exact")
    look = Look(own)
    made = strategy(Plain(), own, look, train_epochs=4)
    made.train(classic(1).train_stream[0], eval_streams=[], num_workers=workers)
    steps = made.clock.train_iterations // 4
    probes = 3  # eight samples, and their halves
    assert look.forwards == [steps + probes] * 4
    assert (own.cache_lookups, own.cache_hits) == (480, 360)
    rate = made.evaluator.get_last_metrics()["RKD_cache_hit_rate_Epoch/train_phase/train_stream"]
    assert rate == 1.0 and all(look.vouched)
    assert look.nbytes == 120 * 8 * 4
    assert look.about == "teacher cache: 120 views x 32 B = 3.75 KiB on cpu"
    assert own.teacher is None  # the teacher is released after the experience


def test_of_a_batch_only_what_is_new_is_asked() -> None:
    """Hard-class batches do not show every sample in every epoch."""
    own = toy_plugin("fda", teacher_cache="exact", classes_per_batch=2, samples_per_class=5)
    asked: list[int] = []

    class Count(SupervisedPlugin[Any]):
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            if not asked:
                own.teacher.module.register_forward_pre_hook(lambda m, a: asked.append(len(a[0])))
                asked.append(0)

    made = strategy(Plain(), own, Count(), train_epochs=6, train_mb_size=10)
    made.train(classic(1).train_stream[0], eval_streams=[])
    seen = 120 if own.cache_lookups - own.cache_hits == 120 else own.cache_lookups - own.cache_hits
    probes = 8 + 4 + 4
    assert sum(asked) in (seen, seen + probes) and seen <= 120
    assert own.cache_lookups == 6 * 120 and own.cache_hits >= 5 * 120


def test_auto_is_off_where_nothing_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    for benchmark, epochs, why in (
        (classic, 1, "no view comes again in 1 epochs"),
        (noisy, 3, "transforms are random"),
    ):
        own = RKDPlugin()
        with caplog.at_level(logging.INFO):
            trained(own, benchmark(), epochs)
        assert own.cache_lookups == 0 and why in caplog.text
    with pytest.raises(ValueError, match=r"transforms are random.*cache_views=N"):
        trained(RKDPlugin(teacher_cache="exact"), noisy())


def test_a_cache_that_is_too_large_is_refused_before_training() -> None:
    own = RKDPlugin(teacher_cache="exact", cache_bytes=1919)
    with pytest.raises(ValueError, match=r"1.88 KiB, and cache_bytes=1919.*cache_bytes=1920"):
        trained(own, classic())
    auto = RKDPlugin(cache_bytes=1919)
    trained(auto, classic())
    assert auto.cache_lookups == 0


def test_a_teacher_whose_answer_depends_on_the_batch_is_refused() -> None:
    def batchwise() -> nn.Module:
        model = Plain()
        model.backbone[2] = nn.BatchNorm1d(12, track_running_stats=False)
        return model

    with pytest.raises(ValueError, match="is random, or depends on the others of its batch"):
        trained(RKDPlugin(teacher_cache="exact"), classic(), model=batchwise)


def test_plugins_of_one_teacher_must_agree() -> None:
    with pytest.raises(ValueError, match=r"RKD and RIFT share a teacher.*same teacher_cache"):
        strategy(Plain(), RKDPlugin(teacher_cache="exact"), RIFTPlugin()).train(
            classic().train_stream[0], eval_streams=[]
        )
    views = RKDPlugin(cache_views=2), RIFTPlugin(cache_views=3, teacher="initial")
    with pytest.raises(ValueError, match=r"cache_views is 2 for RKD and 3 for RIFT"):
        strategy(Plain(), *views).train(noisy().train_stream[0], eval_streams=[])


@pytest.mark.parametrize("other", ["auto", "exact", "clean"])
@pytest.mark.parametrize("clean_first", [True, False])
def test_a_clean_cache_stands_beside_no_other_teachers_cache(other: Any, clean_first: bool) -> None:
    def pair(choice: Any) -> list[Any]:
        made = [
            RKDPlugin(teacher="initial", teacher_cache="clean"),
            RIFTPlugin(teacher_cache=choice),
        ]
        return made if clean_first else made[::-1]

    with pytest.raises(ValueError, match=r"'clean' of R.* pass teacher_cache='off' to R"):
        strategy(Plain(), *pair(other)).train(classic().train_stream[0], eval_streams=[])
    strategy(Plain(dropout=0.0), *pair("off")).train(classic().train_stream[0], eval_streams=[])


def test_plugins_share_a_cache() -> None:
    plugins = toy_plugins({"rkd": {}, "ldifs": {}, "rift": {}})
    made = strategy(Plain(), *plugins, train_epochs=3)
    learn(made, classic())
    steps = made.clock.train_iterations
    assert [p.teacher_forwards for p in plugins] == [steps // 3 + 6, 0, 0]
    assert [p.cache_hits for p in plugins] == [240, 0, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_views_come_again_and_the_cache_knows_them(workers: int) -> None:
    finals, looks = [], []
    for choice in ("off", "exact"):
        own = toy_plugin("fda", teacher_cache=choice, cache_views=2)
        looks.append(Look(own))
        torch.manual_seed(3)
        made = strategy(Plain(), own, looks[-1], train_epochs=4)
        made.train(noisy(1).train_stream[0], eval_streams=[], num_workers=workers)
        finals.append(made.model.state_dict())
    assert own.cache_hits > 200
    for name, value in finals[0].items():
        torch.testing.assert_close(finals[1][name], value, rtol=1e-4, atol=1e-6)
    views = [torch.cat(epoch) for epoch in looks[1].images]
    rows = [{tuple(row.flatten().tolist()) for row in epoch} for epoch in views]
    assert rows[0] & rows[2] and rows[1] & rows[3] and not rows[0] & rows[1]
    assert all(torch.equal(a, torch.cat(b)) for a, b in zip(views, looks[0].images, strict=True))


def test_replayed_views_do_not_depend_on_workers_and_leave_the_streams_alone() -> None:
    found = []
    for workers in (0, 2):
        own = toy_plugin("fda", cache_views=3)
        look = Look(own)
        torch.manual_seed(3)
        made = strategy(Plain(dropout=0.0), own, look, train_epochs=2)
        made.train(noisy(1).train_stream[0], eval_streams=[], num_workers=workers)
        found.append(torch.cat([image for epoch in look.images for image in epoch]))
    assert torch.equal(*found)


def test_clean_shows_the_teacher_the_evaluation_view() -> None:
    own = RKDPlugin(teacher_cache="clean")
    seen: list[tuple[Tensor, Tensor]] = []

    class Check(SupervisedPlugin[Any]):
        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            (values,) = own.teacher._values.values()
            seen.append((strategy.mb_y.clone(), values.clone()))

    model = Plain(dropout=0.0)
    before = copy.deepcopy(model.backbone).eval()
    made = strategy(model, own, Check(), train_epochs=3)
    made.train(noisy(1).train_stream[0], eval_streams=[], num_workers=2)
    assert own.cache_hits == own.cache_lookups == 360
    clean = before(Blobs().images).detach()
    for labels, values in seen:
        for label, value in zip(labels, values, strict=True):
            gaps = (clean[Blobs().targets == label.numpy()] - value).abs().amax(dim=1)
            assert gaps.min() < 1e-5


def test_memory_of_a_replay_plugin_is_cached_too() -> None:
    finals = []
    for choice in ("off", "exact"):
        own = RKDPlugin(teacher_cache=choice)
        torch.manual_seed(0)
        made = strategy(Plain(), own, ReplayPlugin(mem_size=20), train_epochs=3)
        learn(made, classic())
        finals.append(made.model.state_dict())
    assert own.cache_hits > 0
    for name, value in finals[0].items():
        torch.testing.assert_close(finals[1][name], value, rtol=1e-4, atol=1e-6)


class MixUp(SupervisedPlugin[Any]):
    """Replaces the images of a batch, or changes them in place."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        mixed = 0.5 * (strategy.mbatch[0] + strategy.mbatch[0].flip(0))
        if self.in_place:
            strategy.mbatch[0].copy_(mixed)
        else:
            strategy.mbatch[0] = mixed


@pytest.mark.parametrize("in_place", [False, True])
def test_images_that_another_plugin_changes_are_not_taken_for_others(in_place: bool) -> None:
    finals = []
    for choice in ("off", "exact"):
        own = RKDPlugin(teacher_cache=choice)
        torch.manual_seed(0)
        made = strategy(Plain(), MixUp(in_place), own, train_epochs=3)
        # without a copy, the data set's own images would change
        made.train(classic(1).train_stream[0], eval_streams=[])
        finals.append(made.model.state_dict())
    assert same(*finals) and own.cache_hits < 20  # the same pair may meet again


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("step", "epochs_left"), [(3, 3), (7, 2), (14, 1)])
def test_a_run_that_is_resumed_uses_the_values_that_it_had(
    workers: int, step: int, epochs_left: int
) -> None:
    """Three epochs of five batches; values cached before the break keep their bits."""
    experience = classic(1).train_stream[0]
    own = toy_plugin("fda", teacher_cache="exact")
    look = Look(own, states=True)
    strategy(Plain(), own, look, train_epochs=3).train(
        experience, eval_streams=[], num_workers=workers
    )
    assert look.states is not None
    state = look.states[step - 1]
    again, model = toy_plugin("fda", teacher_cache="exact"), Plain(seed=7)
    again.load_state_dict(state)
    model.load_state_dict(look.weights[step - 1])
    more = Look(again, states=True)
    strategy(model, again, more, train_epochs=epochs_left).train(
        experience, eval_streams=[], num_workers=workers
    )
    assert more.states is not None and len(more.states) == 15 - step
    last, right = more.states[-1]["reference"]["cache"], look.states[-1]["reference"]["cache"]
    assert torch.equal(last["names"], right["names"]) and len(last["names"]) > 60
    assert all(torch.equal(last["rows"][k], v) for k, v in right["rows"].items())


def test_task_labels_are_part_of_a_sample() -> None:
    finals = []
    for choice in ("off", "exact"):
        own = LwFPlugin(teacher_cache=choice)
        finals.append(trained(own, classic(3, True), model=Multi).model.state_dict())
    assert own.cache_hits > 0
    for name, value in finals[0].items():
        torch.testing.assert_close(finals[1][name], value, rtol=1e-4, atol=1e-6)


def test_a_file_serves_later_runs(tmp_path: Path) -> None:
    finals, forwards = [], []
    for weight in (1.0, 2.0, 1.0):
        own = RKDPlugin(weight=weight, teacher_cache="exact", cache_dir=tmp_path)
        made = trained(own, classic(1), 2)
        finals.append(made.model.state_dict())
        forwards.append(own.teacher_forwards)
    assert forwards == [5 + 3, 3, 3] and len(list(tmp_path.glob("*.rows"))) == 1
    assert same(finals[0], finals[2]) and not same(finals[0], finals[1])
    other = RKDPlugin(teacher_cache="exact", cache_dir=tmp_path)
    trained(other, classic(1), 2, model=lambda: Plain(seed=5))  # another teacher, another file
    assert other.teacher_forwards == 5 + 3 and len(list(tmp_path.glob("*.rows"))) == 2


def test_half_precision_halves_it_and_rounds_from_the_first() -> None:
    own = RKDPlugin(teacher_cache="exact", cache_dtype="float16")
    look = Look(own)
    made = strategy(Plain(), own, look, train_epochs=2)
    made.train(classic(1).train_stream[0], eval_streams=[])
    assert look.nbytes == 120 * 8 * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_cache": "yes"}, "teacher_cache='yes' is unknown"),
        ({"cache_views": 0}, "cache_views"),
        ({"cache_bytes": 0}, "cache_bytes"),
        ({"cache_dtype": "int8"}, "cache_dtype='int8'"),
        ({"cache_dir": 3}, "cache_dir=3"),
    ],
)
def test_bad_options_are_refused(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        RKDPlugin(**options)
