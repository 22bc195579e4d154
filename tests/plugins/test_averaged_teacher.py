"""``teacher="averaged"``: the teacher is the student's moving average, in every feature plugin."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import EfficientNaive, LwFPlugin, RIFTPlugin, RKDPlugin
from avalanche_proxyfda.models.trained_texts import class_embeddings
from tests.methods import WITH_CACHE, toy_plugin
from tests.models.small_texts import by_task
from tests.plugins.toys import Growing, Plain, backbone, classic, learn, same, strategy, tasks
from tests.reference.average import moving_average

State = dict[str, Tensor]


class Look(SupervisedPlugin[Any]):
    """The student and the teacher at the start of an experience and after each iteration."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.own = own
        self.seen: list[list[tuple[State, State]]] = []

    def _note(self, strategy: Any) -> None:
        root = self.own.reference.root + "." if self.own.reference.root else ""
        teacher = {root + n: v for n, v in self.own.reference.module.state_dict().items()}
        self.seen[-1].append(copy.deepcopy((dict(strategy.model.state_dict()), teacher)))

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_epochs == 0:
            self.seen.append([])
            self._note(strategy)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self._note(strategy)


def follows(seen: list[tuple[State, State]], decay: float) -> bool:
    """Return True if each of the last teacher's tensors is the average of the students'."""
    (start, _), *_ = seen
    for name, value in seen[-1][1].items():
        if "num_batches" in name:
            assert torch.equal(value, seen[-1][0][name])
            continue
        steps = [student[name].double().flatten().tolist() for student, _ in seen[1:]]
        expected = moving_average(start[name].double().flatten().tolist(), steps, decay)
        if value.double().flatten().tolist() != pytest.approx(expected, abs=1e-5):
            return False
    return True


def test_the_teacher_follows_and_begins_each_experience_at_the_student() -> None:
    own = RKDPlugin(teacher="averaged", teacher_decay=0.7)
    look = Look(own)
    trained = strategy(Plain(), own, look, train_epochs=2)
    learn(trained, classic(2))
    for seen in look.seen:
        assert len(seen) == 7 and all(torch.equal(v, seen[0][0][n]) for n, v in seen[0][1].items())
        assert follows(seen, 0.7) and not follows(seen, 0.75)
    assert own.teacher_forwards == trained.clock.train_iterations == 12
    assert own.reference is None and own.cache_lookups == 0


def test_a_shared_teacher_moves_once_a_step() -> None:
    first, second = (
        kind(teacher="averaged", teacher_decay=0.5) for kind in (RKDPlugin, RIFTPlugin)
    )
    look = Look(second)
    trained = strategy(Plain(), first, second, look)
    learn(trained, classic(1))
    assert follows(look.seen[0], 0.5)
    assert (first.teacher_forwards, second.teacher_forwards) == (5, 0)


def test_optimizer_steps_move_it_and_micro_batches_do_not() -> None:
    own, moves = RKDPlugin(teacher="averaged", teacher_decay=0.5), []

    class Count(SupervisedPlugin[Any]):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            moves.append(look.seen[0][-1][1])

    look = Look(own)
    kinds = {"kind": EfficientNaive, "accumulate": 2, "train_mb_size": 8}
    strategy(Plain(), own, look, Count(), **kinds).train(classic(2).train_stream[0])
    changed = [not same(a, b) for a, b in itertools.pairwise(moves)]
    assert changed == [True, False] * 3 + [True]


@pytest.mark.parametrize("method", WITH_CACHE)
def test_every_feature_plugin_takes_it(method: str) -> None:
    own = toy_plugin(method, reference="averaged", teacher_decay=0.9)
    state = learn(strategy(Growing(), own, adam=True), classic(3))
    assert all(v.isfinite().all() for v in state.values())
    assert own.cache.choice == "off" and own.cache_hits == 0 and own.reference is None


def test_a_resumed_training_has_the_same_teacher() -> None:
    benchmark, kept = classic(1), []
    own = RKDPlugin(5.0, teacher="averaged", teacher_decay=0.6)

    class Keep(SupervisedPlugin[Any]):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            states = own.state_dict(), strategy.model.state_dict(), strategy.optimizer.state_dict()
            kept.append(copy.deepcopy(states))

    options: dict[str, Any] = {"train_mb_size": 120}  # an epoch is a step
    whole = strategy(Plain(dropout=0.0), own, Keep(), train_epochs=4, **options)
    whole.train(benchmark.train_stream[0], eval_streams=[], shuffle=False)
    again, model = RKDPlugin(5.0, teacher="averaged", teacher_decay=0.6), Plain(5, dropout=0.0)
    again.load_state_dict(kept[1][0])
    model.load_state_dict(kept[1][1])
    resumed = strategy(model, again, train_epochs=2, **options)
    resumed.optimizer.load_state_dict(kept[1][2])
    resumed.make_optimizer = lambda **kwargs: None  # Avalanche forgets its state
    resumed.train(benchmark.train_stream[0], eval_streams=[], shuffle=False)
    assert same(whole.model.state_dict(), model.state_dict())


def test_the_class_texts_of_an_averaged_teacher_follow_its_text_tower() -> None:
    """The attention mask of the text tower is infinite, and the heads cache their texts."""
    own, model = LwFPlugin(teacher="averaged", teacher_decay=0.5), by_task(backbone(), 3, 5)
    gaps: list[list[float]] = []

    class Texts(SupervisedPlugin[Any]):
        def after_update(self, strategy: Any, **kwargs: Any) -> None:
            head = own.reference.module.head.heads[0]  # type: ignore[union-attr]
            cached, moved = head.fixed().weight, class_embeddings(head.text, head.tokens)
            student = strategy.model.head.heads[0].fixed().weight
            gaps.append([float((w - cached).abs().max()) for w in (moved, student)])

    trained = strategy(model, own, Texts())
    trained.optimizer.param_groups[0]["lr"] = 1e-3
    learn(trained, tasks())
    assert all(own < 1e-5 < student for own, student in gaps) and len(gaps) == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teacher": "averaged", "teacher_cache": "exact"}, "answers anew after each step"),
        ({"teacher": "averaged", "teacher_cache": "clean"}, "teacher_cache='clean'"),
        ({"teacher": "averaged", "teacher_decay": 1.0}, r"teacher_decay=1.0 must lie in \[0, 1\)"),
        ({"teacher_decay": 0.9}, "teacher='previous' stays as it is: leave teacher_decay out"),
    ],
)
def test_bad_options(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RKDPlugin(**options)


def test_one_shared_teacher_has_one_decay() -> None:
    plugins = RKDPlugin(teacher="averaged"), RIFTPlugin(teacher="averaged", teacher_decay=0.9)
    with pytest.raises(ValueError, match=r"RKD and RIFT share an averaged teacher.*0.999 and 0.9"):
        strategy(Plain(), *plugins).train(classic(1).train_stream[0], eval_streams=[])


def test_half_precision_weights_have_no_averaged_teacher() -> None:
    words = r"teacher='averaged' of weights in torch.bfloat16.*keep the weights in float32"
    with pytest.raises(ValueError, match=words):
        strategy(Plain().to(torch.bfloat16), RKDPlugin(teacher="averaged")).train(
            classic(1).train_stream[0], eval_streams=[]
        )
