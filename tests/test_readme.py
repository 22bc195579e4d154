"""The README's code runs as it is written, on a small model in the place of a hub's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from benchmarks.results.files import read_record
from benchmarks.results.tolerance import TOLERANCES
from tests.plugins.toys import CLASSES

ROOT = Path(__file__).parents[1]


def python_block(page: str) -> str:
    """Return the one Python example of a page."""
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL
    )
    return str(code)


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, count: int) -> None:
        self.targets = [k % CLASSES for k in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.randn(
            3, 32, 32, generator=torch.Generator().manual_seed(index)
        ), index % CLASSES


def test_the_strategy_example(monkeypatch: pytest.MonkeyPatch) -> None:
    from avalanche.benchmarks import nc_benchmark
    from open_clip.model import CLIP

    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}
    clip = CLIP(512, vision, text)

    def from_hub(name: str, pretrained: str) -> tuple[Any, None, None]:
        assert (name, pretrained) == ("ViT-B-32-quickgelu", "openai")
        return clip, None, None

    monkeypatch.setattr(open_clip, "create_model_and_transforms", from_hub)
    code = python_block("README.md").replace('device="cuda"', 'device="cpu"')
    assert len(code.strip().splitlines()) <= 15
    benchmark = nc_benchmark(
        Pictures(192),
        Pictures(12),
        2,
        task_labels=False,
        fixed_class_order=list(range(CLASSES)),
        class_ids_from_zero_from_first_exp=True,
    )
    space: dict[str, Any] = {"benchmark": benchmark}
    exec(compile(code.replace("num_workers=8", "num_workers=0"), "README.md", "exec"), space)
    assert str(space["plugins"][0].source) == "0"
    assert space["strategy"].clock.train_exp_counter == 2
    assert any("ProxyFDA_generator" in k for k in space["strategy"].evaluator.get_last_metrics())


def test_the_loss_example() -> None:
    space = {"student_features": torch.randn(20, 6), "teacher_features": torch.randn(20, 5)}
    exec(python_block("docs/plugins.md"), space)
    assert space["loss"].ndim == 0


def test_the_data_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tarfile

    from PIL import Image

    from avalanche_proxyfda import models

    for k in range(200):
        for n in range(3):
            file = tmp_path / "imagenet-r" / f"n{10_000_000 + k:08d}" / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(file)
    with tarfile.open(tmp_path / "imagenet-r.tar", "w") as tar:
        tar.add(tmp_path / "imagenet-r", "imagenet-r")
    real = models.load_backbone
    monkeypatch.setattr(models, "load_backbone", lambda name: real(name, "random", image_size=32))
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(python_block("docs/imagenet-r.md"), space)
    assert space["benchmark"].summary["train"] == 400
    image, label, _ = space["benchmark"].train_stream[0].dataset[0]
    assert image.shape == (3, 32, 32) and 0 <= label < 20


@pytest.mark.timeout(900)  # eleven runs
@pytest.mark.usefixtures("quick_processes")
def test_the_four_commands_on_a_miniature(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex
    import tarfile

    from benchmarks import __main__
    from tests.benchmarks.miniature import imagenet_wnids, write_imagenet_r

    pytest.importorskip("timm")
    blocks = []
    for page, heading in (
        ("README.md", "Split ImageNet-R"),
        ("docs/imagenet-r.md", "Four commands"),
    ):
        text = (ROOT / page).read_text(encoding="utf-8").partition(heading)[2]
        (block, *_) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        blocks.append([shlex.split(line, comments=True) for line in block.strip().splitlines()])
    commands = blocks[0]
    assert len(commands) == 4 and blocks[1] == commands
    write_imagenet_r(tmp_path / "made/imagenet-r", imagenet_wnids(), 2)
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data/imagenet-r.tar", "w") as tar:
        tar.add(tmp_path / "made/imagenet-r", "imagenet-r")
    monkeypatch.chdir(tmp_path)
    small = [
        "backbone.name=tiny-clip",
        "train.epochs=1",
        "stream.split=hash80",  # the lists are of the real images
        "stream.order=pilot-1993",
        "train.workers=0",
        "where.device=cpu",
        "stream.num_experiences=2",
    ]
    for command in commands:
        assert command[:3] == ["python", "-m", "benchmarks"]
        own = [pair for pair in small if pair.partition("=")[0] not in " ".join(command)]
        kept = [
            "stream.num_experiences=2" if "experiences=20" in word else word for word in command
        ]
        monkeypatch.setattr("sys.argv", ["benchmarks", *kept[3:], "--set", *own])
        assert __main__.main() == 0
    shown = capsys.readouterr().out
    assert "400 images read, 0 of them broken" in shown and "split_sha256: " in shown
    for method in ("finetune", "lp-ft", "frozen", "l2sp", "ldifs", "fda", "proxy-fda"):
        assert len(re.findall(rf"^\| {method} \|", shown, re.MULTILINE)) >= 1
    assert "| ldifs | 10 | 2 |" in shown  # two seeds
    assert len(list((tmp_path / "runs/imagenet_r").glob("*.json"))) == 11


def test_the_table_holds_to_the_digit_that_the_tolerance_allows() -> None:
    text = " ".join((ROOT / "docs/demo.md").read_text(encoding="utf-8").split())
    images, accuracy, difference = (
        re.findall(pattern, text)
        for pattern in (
            r"0\.4925 in place of 0\.49, one of (\d+) images",
            r"an accuracy of the table \([^)]*\) holds to ([\d.]+) points?\.",
            r"A difference of accuracies \([^)]*\) holds to ([\d.]+) points?\.",
        )
    )
    records = [read_record(path) for path in (ROOT / "docs/board/records").glob("lp-ft-*.json")]
    tested = {count for record in records if record.stream for count in record.stream.test}
    moved = 0.4925 - 0.49
    assert tested == {int(images[0])} and moved == pytest.approx(1 / int(images[0]))
    allowed = TOLERANCES["accuracy"].allowed(0.6, 0.6, *tested)
    assert [float(accuracy[0])] == pytest.approx([100 * allowed])
    assert [float(difference[0])] == pytest.approx([100 * 2 * allowed])  # of two accuracies
    assert TOLERANCES["forgetting"].allowed(0.0, 0.0) == pytest.approx(2 * allowed)


def test_the_panel_example() -> None:
    code = python_block("docs/metrics.md")
    pytest.importorskip("ot")
    space: dict[str, Any] = {
        f"{name}_{part}": Pictures(24) for name in ("dtd", "pets") for part in ("train", "test")
    }
    exec(code, space)
    names = [type(m).__name__ for m in space["evaluator"].metrics]
    assert {"LinearProbeMetric", "KNNMetric", "DriftMetric"} <= set(names)


def test_links_lead_somewhere_and_it_is_a_front_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target
    assert len(text.split()) <= 900, "the README is a front page: move text to docs"


@pytest.mark.parametrize(
    ("file", "least"),
    [
        ("README.md", 6),
        ("docs/demo.md", 1),
        ("docs/imagenet-r.md", 4),
        ("docs/records.md", 6),
        ("CONTRIBUTING.md", 3),
    ],
)
def test_every_command_that_is_named_exists(file: str, least: int) -> None:
    import shlex

    from benchmarks.__main__ import make_parser

    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.findall(r"python -m benchmarks ([^`\n|)]+)", text)
    for line in found:
        words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "0"), comments=True)
        make_parser().parse_args(words)
    assert len(found) >= least
