"""Code and commands of the new pages run as they are written, on small models."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from torch import Tensor, nn

from avalanche_proxyfda import find_feature_maps
from benchmarks.__main__ import main, make_parser
from benchmarks.config import find_recipe, load_recipe, parse_overrides
from benchmarks.execution.executor import Done, Stepped, execute
from benchmarks.execution.job import Job
from benchmarks.streams.concepts import data
from tests.plugins.toys import CLASSES, Blobs, Plain, classic, same, strategy

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("learn", "how-to", "evidence")
    for path in (ROOT / "docs" / folder).glob("*.md")
)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_blocks(page: str, space: dict[str, Any], which: slice = slice(None)) -> dict[str, Any]:
    for code in blocks(page, "python")[which]:
        exec(compile(code, page, "exec"), space)
    return space


def tower() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def commands() -> list[tuple[str, list[str]]]:
    """Pages with the words of each command of the benchmarks after its name."""
    found: list[tuple[str, list[str]]] = []
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).splitlines():
            start, _, words = line.partition(" -m benchmarks ")
            assert words, f"{page}: {line}"
            assert re.fullmatch(r"python|torchrun --nproc_per_node=\d", start)
            found.append((page, shlex.split(words, comments=True)))
    return found


def test_every_command_and_its_keys_exist() -> None:
    found, parser = commands(), make_parser()
    assert len(found) >= 8
    for page, words in found:
        options = parser.parse_args(words)
        if words[0] == "run":
            recipe = load_recipe(find_recipe(options.config))
            for method in options.methods or recipe.compare:
                assert recipe.of_method(method, parse_overrides(options.overrides)), page
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    inline = re.findall(r"`python -m benchmarks ([^`]+)`", text)
    for line in inline:
        parser.parse_args(shlex.split(line))
    assert len(inline) >= 1


def test_every_page_with_code_has_a_test() -> None:
    with_code = {page for page in PAGES if blocks(page, "python")}
    assert with_code == {
        "docs/how-to/after-a-crash.md",
        "docs/how-to/lambda-and-k.md",
        "docs/how-to/several-gpus.md",
        "docs/how-to/teacher.md",
        "docs/how-to/write-a-method.md",
        "docs/how-to/your-own-model.md",
        "docs/learn/first-plugin.md",
    }


def test_lambda_and_k(capsys: pytest.CaptureFixture[str]) -> None:
    space = run_blocks("docs/how-to/lambda-and-k.md", {})
    assert space["plugin"].num_neighbors == 24
    assert "fda weight (" in capsys.readouterr().out


def test_teacher() -> None:
    space = run_blocks("docs/how-to/teacher.md", {})
    assert space["plugin"].choice == "initial"
    assert [type(each).__name__ for each in space["plugins"]] == ["LDIFSPlugin", "FDAPlugin"]


def test_several_gpus_on_one_process() -> None:
    benchmark = classic()
    space = run_blocks("docs/how-to/several-gpus.md", {"model": tower(), "benchmark": benchmark})
    assert space["strategy"].clock.train_exp_counter == len(benchmark.train_stream) == 2


def test_resume_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page, benchmark = "docs/how-to/after-a-crash.md", classic()
    first = run_blocks(page, {"strategy": strategy(tower()), "benchmark": benchmark})
    again = run_blocks(page, {"strategy": strategy(tower()), "benchmark": benchmark})
    assert first["resumed"] is None and again["resumed"].experiences == 2
    assert same(first["strategy"].model.state_dict(), again["strategy"].model.state_dict())


def test_write_a_method() -> None:
    space = run_blocks("docs/how-to/write-a-method.md", {})
    trained = strategy(tower(), *space["plugins"])
    for experience in classic().train_stream:
        trained.train(experience, eval_streams=[])
    assert any(name.startswith("Cosine_cosine_Epoch") for name in names_of(trained))
    student = torch.eye(3)
    weight, term = space["CosinePlugin"](2.0).compare(student, student.roll(1, 0))["cosine"]
    assert weight == 2.0 and float(term) == 1.0


class Large(Blobs):
    """The images of ``Blobs``, 3 x 32 x 32."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image.repeat(3, 8, 8), label


def test_your_own_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page, data = "docs/how-to/your-own-model.md", (Large(48), Large(12, seed=1))
    space: dict[str, Any] = {"benchmark": nc_benchmark(*data, 2, task_labels=False, seed=0)}
    run_blocks(page, space, slice(2))
    model, ldifs = space["model"], space["ldifs"]
    assert (
        capsys.readouterr().out == "classifier.2:input\n" and str(space["fda"].named) == "avgpool"
    )
    with pytest.raises(ValueError, match="no preset knows the feature maps of MobileNetV3"):
        find_feature_maps(model)
    space["strategy"] = strategy(model)
    run_blocks(page, space, slice(2, 3))
    assert list(map(str, ldifs.sources)) == list(space["taps"])
    assert ldifs.teacher_forwards == 1  # the one step of the second experience
    assert any(name.startswith("LDIFS_distance_Epoch") for name in names_of(space["strategy"]))
    space["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.01)
    space["criterion"] = nn.CrossEntropyLoss()
    run_blocks(page, space, slice(3, None))
    assert space["resumed"] is None and space["ldifs"].weight == 10.0
    run_blocks(page, space, slice(3, None))
    assert space["resumed"].experiences == 2


def test_statistics_are_frozen() -> None:
    space = run_blocks("docs/how-to/your-own-model.md", {}, slice(1, 2))
    model, after = Plain(), Plain()
    strategy(after, space["FrozenStatistics"]()).train(classic().train_stream[0], eval_streams=[])
    assert same(dict(after.named_buffers()), dict(model.named_buffers()))
    assert not same(dict(after.named_parameters()), dict(model.named_parameters()))


def names_of(trained: Any) -> list[str]:
    return list(trained.evaluator.get_last_metrics())


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Few images in the embedded sets, which no other test sees."""

    def forget() -> None:
        data._concept.cache_clear()
        data.embedded_hash.cache_clear()

    forget()
    monkeypatch.setattr(data, "COUNTS", {"train": 48, "validation": 20, "test": 40})
    monkeypatch.setattr(data, "PANEL_TRAIN", 104)
    yield
    forget()


@pytest.mark.usefixtures("few_images")
def test_the_first_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    space = run_blocks("docs/learn/first-plugin.md", {})
    printed = capsys.readouterr().out
    names = ["accuracy on both sets", "Δ_LP on Latin letters"]
    assert list(space["plain"]) == list(space["ldifs"]) == names
    assert [line.partition(":")[0] for line in printed.splitlines()[-2:]] == names


class ThisProcess:
    """An executor without processes of its own."""

    parallel = 1

    def __init__(self, *_: object) -> None:
        pass

    def run(self, jobs: Sequence[Job], done: Done, stepped: Stepped) -> None:
        for job in jobs:
            done(job, execute(job))


@pytest.mark.usefixtures("few_images")
def test_the_first_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.commands.work.run.LocalExecutor", ThisProcess)
    run, board = [words for page, words in commands() if page.endswith("first-benchmark.md")][:2]
    small = ["stream.sets=[textures]", "panel.sets=[colours]", "train.steps=1"]
    small += ["panel.train=40", "panel.test=40"]
    assert run[0] == "run" and "--set" in run and board[0] == "board"
    run.remove("train.epochs=1")  # one step in its place
    for words in ([*run, *small], board):
        monkeypatch.setattr("sys.argv", ["benchmarks", *words])
        assert main() == 0
    page = (tmp_path / "runs/concepts/board/index.html").read_text(encoding="utf-8")
    assert "lp-ft" in page and "ldifs" in page


def calls(text: str) -> list[str]:
    """Calls of ``Naive`` and of strategies that are named after it, with their arguments."""
    found = []
    for match in re.finditer(r"\b\w*Naive\(", text):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[match.start() : end])
    return found


def test_a_strategy_that_is_shown_with_plugins_sets_the_size_of_its_batches() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    sources = (ROOT / "avalanche_proxyfda").rglob("*.py")
    shown = {
        f"{path.relative_to(ROOT)}: {call}"
        for path in (*pages, *sources)
        for call in calls(path.read_text(encoding="utf-8"))
        if re.search(r"plugins=(?!\[\])", call)
    }
    assert len(shown) > 20 and any("[ProxyFDAPlugin()]" in each for each in shown)
    # Avalanche's default is 1, for which plugins that compare images are refused
    assert {each for each in shown if "train_mb_size=" not in each} == set()
