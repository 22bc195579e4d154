"""``backbone.train``: runs with a trained text tower, their rates, and what is refused."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.models import IncrementalClassifier
from open_clip.model import CLIP
from torch import nn

from benchmarks.config import Config, read
from benchmarks.experiment import measure
from benchmarks.experiment import run as run_module
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer, WarmUpCosine
from benchmarks.models.build import build_optimizer
from tests.benchmarks.miniature import config, imagenet_r
from tests.benchmarks.records import recipe
from tests.models.small_texts import small_clip, two_towers
from tests.plugins.toys import classic, learn, modern, strategy

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")
FIXED = {"kind": "zero-shot"}
BOTH, TEXT = {"text": "full"}, {"text": "full", "image": "frozen"}


def small(data: Path, towers: dict[str, str], **train: Any) -> Config:
    sets = ["folder:photo", "folder:sketch"]
    return config(
        data,
        method="finetune",
        head=FIXED,
        backbone={"train": towers},
        stream={"kind": "sequence", "sets": sets},
        panel={"sets": ["colours"], "train": 20, "test": 20},
        train={"lr": 1e-3, "batch": 32, "eval_batch": 50, "batches": "shuffled", **train},
    )


def test_a_run_trains_the_towers_that_it_names(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 0 has the bits of the fixed head; the panel's texts are those of each moment."""
    texts: list[bool] = []  # for each forward of a text tower, True within a step
    seen: list[nn.Module] = []
    encode = CLIP.encode_text

    def counted(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        texts.append(Look.inside)
        rows: torch.Tensor = encode(self, *args, **kwargs)
        return rows

    class Look(StepTimer):
        inside = False

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            super().before_training_iteration(strategy, **kwargs)
            self.now = [p.detach().clone() for p in strategy.model.parameters()]
            if strategy.model not in seen:
                seen.append(strategy.model)
            Look.inside = True

        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            super().after_training_iteration(strategy, **kwargs)
            Look.inside = False
            named = zip(strategy.model.named_parameters(), self.now, strict=True)
            moved.update(n.partition(".")[0] for (n, p), before in named if not p.equal(before))

    monkeypatch.setattr(CLIP, "encode_text", counted)
    monkeypatch.setattr(run_module, "StepTimer", Look)
    records: list[Any] = []
    for towers, expected in (({}, {"tower"}), (BOTH, {"tower", "text"}), (TEXT, {"text"})):
        moved: set[str] = set()
        texts.clear()
        measure._PRETRAINED.clear()
        record: Any = run(small(data, towers, **({"text_lr": 2e-2} if towers else {})))
        records.append(record)
        assert moved == expected
        steps = record.cost.steps
        assert record.cost.student_forwards == steps
        assert texts.count(True) == (steps if "text" in expected else 0)
        assert record.cost.text_forwards == (steps if "text" in expected else None)
    frozen, both, text = records
    for other in (both, text):
        assert other.outcome.accuracy[0] == frozen.outcome.accuracy[0]
        assert other.outcome.loss_terms != frozen.outcome.loss_terms
        assert other.outcome.panel[0].zero_shot == frozen.outcome.panel[0].zero_shot
    assert text.outcome.panel[0].linear_probe == text.outcome.panel[1].linear_probe
    assert text.outcome.panel[0].zero_shot != text.outcome.panel[1].zero_shot
    assert not any(part.training for part in seen[2].tower.modules())


def test_forwards_of_the_text_tower_are_counted_and_saved() -> None:
    """A timer of a later process goes on from the saved number."""

    def learnt(timer: StepTimer) -> Any:
        made = strategy(two_towers(Flat(small_clip().visual)), timer)
        learn(made, classic(1))
        return made

    first, again = StepTimer(), StepTimer()
    steps = learnt(first).clock.train_iterations
    assert first.text_forwards == first.forwards == steps > 0
    again.load_state_dict(first.state_dict())
    assert again.text_forwards == steps
    learnt(again)
    assert again.text_forwards == again.state_dict()["text_forwards"] == 2 * steps
    older = {k: v for k, v in first.state_dict().items() if k != "text_forwards"}
    again.load_state_dict(older)  # a checkpoint from before the count
    assert again.text_forwards == 0


def test_one_head_for_all_and_for_growing_streams(data: Path) -> None:
    sets = {"kind": "sequence", "sets": ["folder:photo", "folder:sketch"], "shared_labels": True}
    shared: Any = prepare(config(data, head=FIXED, backbone={"train": BOTH}, stream=sets)).model
    grows: Any = prepare(imagenet_r(data, 2, head=FIXED, backbone={"train": BOTH})).model
    assert [name for name, _ in grows.named_children()] == ["text", "tower", "head"]
    assert grows.head.by_experience and not shared.head.by_experience
    assert grows.head.classes == 200


def test_the_keys_change_no_earlier_run() -> None:
    made = recipe("finetune", head__kind="zero-shot")
    same = recipe("finetune", head__kind="zero-shot", backbone__train__text="frozen")
    both = recipe("finetune", head__kind="zero-shot", backbone__train__text="full")
    decayed = recipe("finetune", head__kind="zero-shot", train__layer_decay=0.7)
    assert made.identity == same.identity
    assert len({made.identity, both.identity, decayed.identity}) == 3


def test_what_cannot_be_trained_is_refused(data: Path) -> None:
    def refused(message: str, **content: Any) -> None:
        with pytest.raises(ValueError, match=message):
            read(content)

    refused(
        r"backbone.train.text=full: the head.kind=probe of tiny-clip has no texts in training; set "
        "head.kind=zero-shot, or backbone.train.text=frozen",
        backbone={"train": BOTH},
    )
    refused("train.text_lr=0.001: the text tower is frozen; leave", train={"text_lr": 1e-3})
    refused("layer_decay", train={"layer_decay": 1.5})
    refused("layer_decay", train={"layer_decay": 0})
    refused("'full' or 'frozen'", backbone={"train": {"image": "half"}}, head=FIXED)
    timm = {"name": "timm:mobilenetv2_035", "weights": "random", "image_size": 32, "train": BOTH}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    blind = config(data, backbone=timm, head=FIXED, stream=sets, panel={"sets": []})
    with pytest.raises(
        ValueError,
        match=r"train.text=full: timm:mobilenetv2_035 has no text tower; set backbone.name t",
    ):
        prepare(blind)


def group_rates(model: nn.Module, **content: Any) -> list[tuple[float, set[str]]]:
    """Rates of the groups, with the names of their parameters."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = build_optimizer(read(content), model).param_groups
    return [(g["lr"], {names[id(p)] for p in g["params"]}) for g in groups]


def test_each_tower_has_its_rate() -> None:
    both = {"backbone": {"train": BOTH}, "head": FIXED}
    for train, text in (({"lr": 1e-3}, 1e-3), ({"lr": 1e-3, "text_lr": 1e-5}, 1e-5)):
        image, words = group_rates(two_towers(), **both, train=train)
        assert (image[0], words[0]) == (1e-3, text)
        assert {name.partition(".")[0] for name in image[1]} == {"tower"}
        assert {name.partition(".")[0] for name in words[1]} == {"text"}
    model = two_towers()
    (_, (rate, _)) = group_rates(model, **both, train={"lr": 0, "text_lr": 1e-4})
    assert rate == 1e-4 and not any(p.requires_grad for p in model.tower.parameters())
    alone = nn.Sequential(OrderedDict(tower=small_clip().visual, head=nn.Linear(8, 2)))
    ((rate, names),) = group_rates(alone, backbone={"train": {"image": "frozen"}})
    assert names == {"head.weight", "head.bias"} and not alone.tower.proj.requires_grad
    with pytest.raises(ValueError, match=r"say the text tower's rate, train.text_lr"):
        group_rates(two_towers(), **both, train={"lr": 0})
    with pytest.raises(ValueError, match="nothing is left to be trained"):
        group_rates(two_towers(), **both, method="frozen")


def test_rates_decay_from_the_top_of_each_tower() -> None:
    both = {"backbone": {"train": BOTH}, "head": FIXED}
    train = {"lr": 1e-3, "text_lr": 1e-2, "layer_decay": 0.5}
    found = group_rates(two_towers(), **both, train=train)
    rates = [rate for rate, _ in found]
    expected = [top * 0.5**depth for top in (1e-3, 1e-2) for depth in range(4)]
    assert rates == pytest.approx(expected)
    by_name = {name: rate for rate, names in found for name in names}
    assert by_name["tower.proj"] == 1e-3
    assert by_name["tower.transformer.resblocks.0.ln_1.weight"] == pytest.approx(1e-3 / 4)
    assert by_name["text.clip.token_embedding.weight"] == pytest.approx(1e-2 / 8)
    assert set(by_name) == {name for name, _ in two_towers().named_parameters()}
    frozen = {"backbone": {"train": TEXT}, "head": FIXED}
    assert len(group_rates(two_towers(nn.Linear(2, 2)), **frozen, train=train)) == 5
    with pytest.raises(ValueError, match=r"layer_decay=0.5 with tiny-clip: the blocks of Linear"):
        group_rates(two_towers(nn.Linear(2, 2)), **both, train=train)
    alone = nn.Sequential(OrderedDict(tower=small_clip().visual, head=nn.Linear(8, 2)))
    decayed = group_rates(alone, train={"lr": 1e-3, "head_lr": 1e-1, "layer_decay": 0.5})
    assert [rate for rate, _ in decayed] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4, 1e-1])
    with pytest.raises(ValueError, match=r"layer_decay=0.5: no tower is trained; leave it out"):
        group_rates(alone, method="frozen", train={"lr": 1e-3, "layer_decay": 0.5})


def test_the_peak_of_each_group_is_its_own() -> None:
    content = {"backbone": {"train": BOTH}, "head": FIXED}
    train = {"lr": 1e-3, "text_lr": 1e-2, "layer_decay": 0.5}
    optimizer = build_optimizer(read({**content, "train": train}), two_towers())
    peaks = [group["lr"] for group in optimizer.param_groups]
    clock = SimpleNamespace(train_exp_iterations=0)
    made: Any = SimpleNamespace(
        optimizer=optimizer, clock=clock, dataloader=range(10), train_epochs=1
    )
    schedule = WarmUpCosine(warm_up=0.2)
    for _ in range(2):  # experiences
        schedule.before_training_exp(made)
        for step, share in ((0, 1 / 2), (5, 1 / 2), (9, 0.5 * (1 + math.cos(0.9 * math.pi)))):
            clock.train_exp_iterations = step
            schedule.before_training_iteration(made)
            rates = [group["lr"] for group in optimizer.param_groups]
            assert rates == pytest.approx([peak * share for peak in peaks])


class Flat(nn.Module):
    """Shows 1 x 4 x 4 images to a tower for 3 x 8 x 8."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.trunk = tower

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.trunk(images.repeat(1, 3, 2, 2))
        return rows


def test_avalanche_keeps_the_groups_when_heads_grow() -> None:
    tower = Flat(small_clip().visual)
    model: Any = nn.Sequential(OrderedDict(tower=tower, head=IncrementalClassifier(8, 2)))
    made = read({"train": {"lr": 1e-3, "head_lr": 1e-2, "layer_decay": 0.5}})
    trained = strategy(model)
    trained.optimizer = build_optimizer(made, model)
    sizes = [len(group["params"]) for group in trained.optimizer.param_groups]
    learn(trained, modern(2))
    groups = trained.optimizer.param_groups
    assert [len(group["params"]) for group in groups] == sizes
    assert {id(p) for p in groups[-1]["params"]} == {id(p) for p in model.head.parameters()}
    both = two_towers(Flat(small_clip().visual))
    content = {"backbone": {"train": TEXT}, "head": FIXED, "train": {"layer_decay": 0.5}}
    trained = strategy(both)
    trained.optimizer = build_optimizer(read(content), both)
    sizes = [len(group["params"]) for group in trained.optimizer.param_groups]
    learn(trained, classic(2))
    assert [len(group["params"]) for group in trained.optimizer.param_groups] == sizes
