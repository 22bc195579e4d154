"""SoftFDA: its exact start, memory, texts, proxies, the sigmoid's start, and refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import LDIFSPlugin, ReferenceData, SoftFDAPlugin
from avalanche_proxyfda.losses import SoftFDALoss
from avalanche_proxyfda.models import SeenTextHead, TextHead, TrainedTextHead, TwoTowers
from avalanche_proxyfda.plugins.base.auto_weight import drifted
from avalanche_proxyfda.plugins.base.head_texts import head_texts
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from tests.methods import TAPS
from tests.plugins.test_life_cycle import Watcher
from tests.plugins.test_reference_data import images
from tests.plugins.test_reference_rivals import Still
from tests.plugins.toys import Plain, classic, learn, strategy

WORDS = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
FORMS: dict[str, dict[str, Any]] = {
    "kl": {},
    "bregman": {"divergence": "bregman"},
    "memory": {"memory": 30},
    "texts": {"texts": WORDS},
    "proxies": {"proxies": True},
    "all": {"divergence": "bregman", "memory": 30, "texts": WORDS, "proxies": True},
}


class Recorded(SoftFDAPlugin):
    """Records values, gradients, features and columns of each step."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.values: list[float] = []
        self.gradients: list[Tensor] = []
        self.teachers: list[Tensor] = []
        self.columns: list[Tensor | None] = []

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        rows = self.memory.rows
        self.columns.append(None if rows is None else rows.clone())
        self.teachers.append(teacher.clone())
        terms = super().compare(student, teacher)
        value = terms["alignment"][1]
        self.values.append(float(value.detach()))
        self.gradients.append(torch.autograd.grad(value, student, retain_graph=True)[0])
        return terms


def recorded(model: nn.Module | None = None, experiences: int = 2, **options: Any) -> Recorded:
    """A plugin that learnt the toy stream, 5 steps of 24 images in all (3 and 3 of two)."""
    torch.manual_seed(0)  # the order of the images
    own = Recorded(name="own", hard_class_batches=False, **options)
    learn(strategy(Still() if model is None else model, own), classic(experiences))
    return own


@pytest.mark.parametrize("form", FORMS)
def test_the_first_step_at_the_teacher_is_exactly_zero(form: str) -> None:
    own = recorded(num_neighbors=4, **FORMS[form])
    assert len(own.values) == 6
    for first in (0, 3):  # of each experience
        assert own.values[first] == 0 and (own.gradients[first] == 0).all()
        assert own.values[first + 2] > 0 and own.gradients[first + 2].any()


# ---- memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 30, 100])
def test_the_memory_holds_the_last_samples_and_no_more(size: int) -> None:
    own = recorded(memory=size)
    sizes = [0 if rows is None else len(rows) for rows in own.columns]
    assert sizes == [0, min(size, 24), min(size, 48)] * 2  # the second teacher is another
    earlier = torch.cat(own.teachers[3:5])
    assert own.columns[5] is not None and torch.equal(own.columns[5], earlier[-size:])
    assert own.memory.rows is not None and len(own.memory.rows) == min(size, 60)
    assert own.memory.rows.untyped_storage().nbytes() == own.memory.rows.nbytes


def test_the_memory_of_the_initial_teacher_lives_on() -> None:
    own = recorded(memory=30, teacher="initial")
    rows = own.columns[3]
    assert rows is not None and torch.equal(rows, torch.cat(own.teachers[1:3])[-30:])


def test_memory_changes_the_loss_as_further_columns_do() -> None:
    own, plain = recorded(memory=30, experiences=1), recorded(experiences=1)
    assert own.values[0] == plain.values[0] == 0 < plain.values[1] != own.values[1]


def test_reference_images_do_not_enter_the_memory() -> None:
    own = recorded(memory=30, experiences=1, reference_data=ReferenceData(images(16), batch=8))
    trained = [rows for rows in own.teachers if len(rows) != 8]
    assert len(own.teachers) > len(trained) and own.memory.rows is not None
    assert torch.equal(own.memory.rows, torch.cat(trained)[-30:])


def test_the_comparisons_that_measure_an_automatic_weight_do_not_enter_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, added = SoftFDAPlugin("auto", memory=30, hard_class_batches=False), []
    monkeypatch.setattr(own.memory, "add", lambda rows: added.append(len(rows)))
    trained = strategy(Still(), own)
    learn(trained, classic(2))
    assert len(added) == trained.clock.train_iterations


def test_the_unit_of_an_automatic_weight_is_that_of_the_columns_of_the_first_batch() -> None:
    rows, earlier = (
        torch.randn(n, 64, generator=torch.Generator().manual_seed(n)) + 1 for n in (32, 90)
    )
    units = []
    for size in (0, 32, 256):
        own = SoftFDAPlugin("auto", memory=size, hard_class_batches=False)
        own.measured(own.compare, rows.clone(), rows)
        units.append(own.constraints[""].unit)
        assert own.memory.rows is None if size == 0 else len(own.memory.rows) == 32  # type: ignore[arg-type]
    assert units[0] == units[1] == units[2] == float(SoftFDALoss()(drifted(rows, 0.5), rows))
    own = SoftFDAPlugin("auto", memory=256, hard_class_batches=False)
    own.memory.add(earlier)
    own.measured(own.compare, rows.clone(), rows)
    right = float(SoftFDALoss()(drifted(rows, 0.5), rows, earlier))
    assert own.constraints[""].unit == right != units[0]


def test_the_unit_of_training_is_that_of_an_empty_memory() -> None:
    units = []
    for size in (0, 30):
        own = SoftFDAPlugin("auto", memory=size, hard_class_batches=False)
        torch.manual_seed(0)
        strategy(Still(), own).train(classic(1).train_stream[0], eval_streams=[])
        units.append(own.constraints[""].unit)
    assert units[0] == units[1] > 1e-3


def test_a_loaded_state_keeps_the_memory() -> None:
    own = recorded(memory=10, teacher="initial")
    state, fresh = copy.deepcopy(own.state_dict()), SoftFDAPlugin(memory=10, teacher="initial")
    fresh.load_state_dict(state)
    assert torch.equal(fresh.state_dict()["memory"], state["memory"])
    with pytest.raises(ValueError, match=r"memory of 10 samples, and this plugin has memory=9"):
        SoftFDAPlugin(memory=9, teacher="initial").load_state_dict(state)


# ---- texts --------------------------------------------------------------------------------


class ZeroShot(Still):
    """A model with a zero-shot head."""

    def __init__(self, seen: bool = False) -> None:
        super().__init__()
        head = TextHead(torch.randn(6, 8, generator=torch.Generator().manual_seed(4)))
        self.classifier = SeenTextHead(head) if seen else head


@pytest.mark.parametrize("seen", [False, True])
def test_texts_of_the_head_are_those_of_all_its_classes(seen: bool) -> None:
    model = ZeroShot(seen)
    given = recorded(ZeroShot(seen), texts=model.classifier.weight.clone())
    own = recorded(model, texts="head")
    assert own.values == given.values and own.values != recorded(ZeroShot(seen)).values
    assert torch.equal(own.state_dict()["texts"], model.classifier.weight)
    assert given.state_dict()["texts"] is None


def test_texts_of_a_trained_tower_are_encoded_as_its_weights_stand() -> None:
    tokens = torch.tensor([[[1, 4, 9, 0, 0, 0]], [[1, 2, 9, 0, 0, 0]]])
    text = Still(with_tower=True).text
    model = TwoTowers(Still().backbone, TrainedTextHead(text, tokens)).train()
    texts = head_texts(model)
    assert texts is not None and not texts.requires_grad and model.head.training
    expected = nn.functional.normalize(text(tokens[:, 0]), dim=1)
    torch.testing.assert_close(texts, expected.detach())


@pytest.mark.parametrize("teacher", ["previous", "initial"])
def test_each_experience_reads_the_texts_of_the_heads_anew(teacher: Any) -> None:
    own = SoftFDAPlugin(texts="head", teacher=teacher, hard_class_batches=False)
    trained = strategy(ZeroShot(), own)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    before = own.state_dict()["texts"]
    with torch.no_grad():
        trained.model.classifier.weight.neg_()
    assert torch.equal(own.state_dict()["texts"], before)
    trained.train(classic(2).train_stream[1], eval_streams=[])
    assert torch.equal(own.state_dict()["texts"], -before)


@pytest.mark.parametrize(
    ("model", "texts", "words"),
    [
        (Still, "head", "texts='head' needs a zero-shot head, and Still has none"),
        (Still, WORDS[:, :7], r"texts has shape \(5, 7\); expected \[M, 8\]"),
    ],
)
def test_texts_that_do_not_fit_are_refused(model: Any, texts: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        recorded(model(), texts=texts)


# ---- beside others, and the rest ----------------------------------------------------------


def test_soft_fda_and_ldifs_share_one_teacher_forward() -> None:
    own = SoftFDAPlugin(memory=10, proxies=True, num_neighbors=4, hard_class_batches=False)
    other, watcher = LDIFSPlugin(1.0, taps=TAPS), Watcher()
    trained = strategy(Plain(), watcher, own, other)
    trained.train(classic(1).train_stream[0], eval_streams=[])
    steps = trained.clock.train_iterations
    assert own.teacher_forwards + other.teacher_forwards == steps == len(watcher.calls)
    assert watcher.calls == [1] * steps
    metrics = trained.evaluator.get_last_metrics()
    for term in ("SoftFDA_alignment", "SoftFDA_generator", "LDIFS_distance"):
        assert metrics[f"{term}_Epoch/train_phase/train_stream"] > 0


def test_a_batch_of_one_is_skipped() -> None:
    own = SoftFDAPlugin(hard_class_batches=False, memory=10)
    strategy(Still(), own).train(classic(1, count=25).train_stream[0], eval_streams=[])
    assert own.skipped == 1 and own.memory.rows is not None and len(own.memory.rows) == 10


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"hard_class_batches": False}, False),
        ({"mining": "random"}, False),
        ({}, True),
        ({"hard_class_batches": False, "divergence": "bregman"}, True),
        ({"hard_class_batches": False, "proxies": True}, True),
    ],
)
def test_the_sigmoid_is_fitted_where_it_is_used(options: Any, fits: bool) -> None:
    torch.manual_seed(0)  # with one seed in forty the cosines separate, and no fit is possible
    own = SoftFDAPlugin(num_neighbors=4, **options)
    strategy(Plain(), own).train(classic(1).train_stream[0], eval_streams=[])
    assert own.loss is not None
    assert (float(own.loss.bias) != -10.0) == fits
    assert {name.partition(".")[0] for name, _ in own.loss.named_parameters()} <= {"generator"}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scale": 0}, ValueError, "scale=0 makes all distributions uniform"),
        ({"scale": -2}, ValueError, "scale=-2 must be finite and not negative"),
        ({"divergence": "js"}, ValueError, "divergence='js' is unknown"),
        ({"divergence": "bregman", "scale": 5}, ValueError, "scale=5 is of the softmax"),
        ({"memory": -1}, ValueError, "memory=-1 must be at least 0"),
        ({"memory": 1.5}, TypeError, "memory=1.5 must be an int"),
        ({"memory": True}, TypeError, "memory=True must be an int"),
        ({"memory": 8, "teacher": "averaged"}, ValueError, "memory=8 holds features of one"),
        ({"proxies": 1}, TypeError, "proxies=1 must be True or False"),
        ({"max_proxies": 3}, ValueError, "max_proxies=3 has no effect without proxies"),
        ({"proxies": True, "max_proxies": 0}, ValueError, "max_proxies=0 must be at least 1"),
        ({"texts": "names"}, ValueError, "texts='names' must be 'head', text features"),
        ({"texts": torch.ones(3)}, ValueError, r"texts has shape \(3,\)"),
        ({"texts": torch.ones(3, 2).long()}, TypeError, "texts must be a floating-point"),
        ({"learnable": True}, TypeError, "SoftFDAPlugin has no argument 'learnable'"),
    ],
)
def test_bad_options(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SoftFDAPlugin(**options)
