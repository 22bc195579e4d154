"""Switches of torch in a run: set, recorded and restored; and the precision that auto means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.config import RECIPES, Config, load_recipe, precision_of, read
from benchmarks.execution.fitted import fitted
from benchmarks.execution.recipe_jobs import recipe_jobs
from benchmarks.experiment import numerics as module
from benchmarks.experiment import prepare as prepare_module
from benchmarks.experiment.numerics import WORKSPACE, let_cublas_repeat, numerics, resolved
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.run import run
from tests.benchmarks.miniature import config

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def train(**keys: Any) -> Any:
    return read({"train": keys}).train


def settings() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        os.environ.get(WORKSPACE),
    )


@pytest.mark.parametrize(("before", "inside"), [(None, ":4096:8"), (":16:8", ":16:8"), ("x", None)])
def test_deterministic_is_set_and_restored(
    monkeypatch: pytest.MonkeyPatch, before: str | None, inside: str | None
) -> None:
    if before is None:
        monkeypatch.delenv(WORKSPACE, raising=False)
    else:
        monkeypatch.setenv(WORKSPACE, before)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    found = settings()
    with suppress(KeyError), numerics(train(deterministic=True)):
        assert settings() == (True, False, True, False, inside or ":4096:8")
        raise KeyError
    assert settings() == found
    with numerics(train()):
        assert settings() == found


def test_cublas_repeats_its_bits_from_the_start_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(WORKSPACE, "x")  # monkeypatch restores the variable after the test
    monkeypatch.delenv(WORKSPACE)
    let_cublas_repeat(CPU)
    assert WORKSPACE not in os.environ
    let_cublas_repeat(CUDA)
    assert os.environ[WORKSPACE] == ":4096:8"
    monkeypatch.setenv(WORKSPACE, ":16:8")
    let_cublas_repeat(CUDA)
    assert os.environ[WORKSPACE] == ":16:8"


def allowed() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def tf32() -> Iterator[None]:
    """Restore torch's settings of TF32."""
    before = allowed()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.filterwarnings("ignore:.*TF32")
def test_tf32_is_set_and_restored(tf32: None, wanted: bool) -> None:
    before = allowed()
    with numerics(train(tf32=wanted)):
        assert allowed() == (wanted, wanted)
    assert allowed() == before
    with numerics(train()):
        assert allowed() == before


@pytest.mark.skipif(
    not hasattr(torch.backends.cudnn, "conv"), reason="this torch has no fp32_precision"
)
@pytest.mark.filterwarnings("ignore:.*TF32")
def test_tf32_that_was_set_by_the_newer_interface_is_restored(tf32: None) -> None:
    products: Any = torch.backends.cuda.matmul
    products.fp32_precision = "tf32"
    with pytest.raises(RuntimeError, match="mix"):  # so torch answers no older question
        allowed()
    with numerics(train(tf32=False)):
        assert products.fp32_precision == "ieee" and allowed() == (False, False)
    assert products.fp32_precision == "tf32"


@pytest.mark.parametrize(
    ("device", "major", "expected"), [(CPU, 9, "float32"), (CUDA, 8, "bf16"), (CUDA, 7, "float32")]
)
def test_auto_is_bf16_where_an_accelerator_has_it(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, major: int, expected: str
) -> None:
    monkeypatch.setattr(module, "device_of", lambda *_, **__: device)
    properties = type("Properties", (), {"major": major})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    auto = read({"train": {"precision": "auto"}})
    assert precision_of(resolved(auto).train) == expected
    assert auto.identity == read({}).identity  # recorded runs keep their names
    assert (resolved(auto).identity == read({}).identity) == (expected == "float32")
    fp16 = read({"train": {"precision": "fp16"}})
    assert resolved(fp16) is fp16
    with pytest.raises(ValueError, match=r"train\.precision=auto depends on the device"):
        precision_of(auto.train)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_real_backbones_leave_the_precision_to_the_device(
    path: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(path)
    real = recipe.config.backbone.name != "tiny-clip"
    assert recipe.config.train.precision == ("auto" if real else "float32")
    changes = {"where.device": "cpu"}
    jobs = recipe_jobs(recipe, tmp_path, recipe.compare[:2], [0], "recipe", changes)
    assert {job.config.train.precision for job in jobs} == {recipe.config.train.precision}
    for job in fitted(jobs):
        assert job.config.train.precision == "float32"


def small(data: Path, method: str = "rkd", **keys: Any) -> Config:
    return config(
        data,
        method=method,
        strength=None if method == "lp-ft" else 1.0,
        panel={"sets": []},
        stream={"kind": "sequence", "sets": ["folder:photo"]},
        train={"lr": 1e-4, "batch": 12, "eval_batch": 50, "batches": "shuffled", **keys},
    )


def test_channels_last_is_the_memory_of_the_convolutions(data: Path) -> None:
    for wanted in (False, True):
        model = prepare(small(data, channels_last=wanted), only_check=True).model
        weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
        assert weights
        for weight in weights:
            assert weight.is_contiguous(memory_format=torch.channels_last) == wanted


def test_the_keys_reach_the_run_and_its_record(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    compile_by: Callable[..., None] = nn.Module.compile

    def by_eager(model: nn.Module) -> None:  # other backends need a compiler
        compiled.append(model)
        compile_by(model, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", by_eager)
    before = settings()
    plain, repeated = run(small(data, precision="auto")), run(small(data, deterministic=True))
    assert settings() == before and not compiled
    assert plain.how.config["train"]["precision"] == plain.how.machine.dtype == "float32"
    assert not plain.how.machine.deterministic["algorithms"]
    assert repeated.how.machine.deterministic["algorithms"]
    assert repeated.outcome == plain.outcome and repeated.run_id != plain.run_id
    assert plain.run_id == small(data).identity
    faster = run(small(data, compile=True))
    (tower,) = compiled
    assert not hasattr(tower, "head") and faster.outcome is not None and plain.outcome is not None
    assert faster.outcome.accuracy[-1][0] == pytest.approx(plain.outcome.accuracy[-1][0], abs=0.1)
    torch.compiler.reset()


@pytest.mark.skipif(torch.__version__ < (2, 11), reason="torch 2.6 cannot compile the hooks")
def test_a_compiled_run_has_no_code_of_the_run_before_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch takes the code of an equal module, which lacks the hooks of the second run."""
    compile_by: Callable[..., None] = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda model: compile_by(model, backend="eager"))
    run(small(data, "lp-ft", compile=True))
    record = run(small(data, "ldifs", compile=True))
    torch.compiler.reset()
    assert record.outcome is not None
    terms = record.outcome.loss_terms[0]
    assert any(max(values) > 0 for name, values in terms.items() if name.startswith("LDIFS")), terms


@pytest.mark.parametrize("name", ["cpu", "meta:1"])
def test_a_numbered_device_becomes_the_present_one(
    data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(prepare_module, "choose_device", chosen.append)
    monkeypatch.setattr(prepare_module, "device_of", lambda config, touch: torch.device(name))
    monkeypatch.setattr(prepare_module, "build_optimizer", lambda config, model: None)
    prepare(small(data), only_check=True)
    assert chosen == []
    prepare(small(data))
    assert chosen == ([] if name == "cpu" else [torch.device(name)])


def test_channels_last_reaches_the_convolutions_of_a_run(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch follows the memory of the weights, so the maps of a convolution have it too."""
    seen: set[tuple[bool, bool]] = set()
    forward: Callable[..., Tensor] = nn.Conv2d.forward

    def look(layer: nn.Conv2d, images: Tensor) -> Tensor:
        maps = forward(layer, images)
        if layer.training:
            last = torch.channels_last
            parts = (layer.weight, maps)
            weight, made = (part.is_contiguous(memory_format=last) for part in parts)
            seen.add((weight, made))
        return maps

    monkeypatch.setattr(nn.Conv2d, "forward", look)
    plain = run(small(data))
    assert seen == {(False, False)}
    seen.clear()
    last = run(small(data, channels_last=True))
    assert seen == {(True, True)}
    assert last.outcome is not None and plain.outcome is not None
    assert last.outcome.accuracy[-1][0] == pytest.approx(plain.outcome.accuracy[-1][0], abs=0.1)
