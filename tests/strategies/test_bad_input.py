"""Refused options and strategies, and the messages."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training import AGEM, ER_ACE, GEM, GSS_greedy, Naive
from torch import nn

from avalanche_proxyfda import EfficientNaive, EfficientTraining
from avalanche_proxyfda.strategies.precision import check_precision
from tests.plugins.toys import Plain, strategy


def make(kind: Any = EfficientNaive, **options: Any) -> Any:
    return strategy(Plain(), kind=kind, **options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"precision": "half"}, ValueError, r"precision='half' is unknown; choose one of"),
        ({"precision": None}, ValueError, r"precision=None is unknown"),
        ({"accumulate": 0}, ValueError, r"accumulate=0 must be at least 1"),
        ({"accumulate": 2.0}, TypeError, r"accumulate=2.0 must be an int"),
        ({"accumulate": True}, TypeError, r"accumulate=True must be an int"),
        (
            {"precision": "bf16", "device": torch.device("meta")},
            ValueError,
            r"precision='bf16' cannot be used on meta.*take precision='float32'",
        ),
    ],
)
def test_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(**options)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_device_that_would_silently_stay_in_float32(
    precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device without the dtype, torch warns and turns autocast off."""
    off = torch.autocast

    def without(kind: str, **options: Any) -> Any:
        return off(kind, enabled=False)

    monkeypatch.setattr("torch.autocast", without)
    with pytest.raises(ValueError, match=r"autocast does not give torch\..*float16 there"):
        check_precision(precision, torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"precision='fp16' cannot be used on cuda"):
        check_precision("fp16", torch.device("cuda"))


def test_strategies_with_a_loop_of_their_own() -> None:
    with pytest.raises(TypeError, match=r"ER_ACE has a training_epoch\(\) of its own"):
        type("Efficient", (EfficientTraining, ER_ACE), {})
    with pytest.raises(TypeError, match=r"write class Late\(EfficientTraining, Naive\)"):
        type("Late", (Naive, EfficientTraining), {})


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"precision": "fp16"}])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GEM, {"patterns_per_exp": 10}),
        (AGEM, {"patterns_per_exp": 10, "sample_size": 10}),
        (GSS_greedy, {"mem_size": 10, "input_size": [1, 4, 4]}),
    ],
)
def test_plugins_that_run_backward_inside_a_step(
    kind: Any, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    class Efficient(EfficientTraining, kind):  # type: ignore[misc, valid-type]
        pass

    make(Efficient, **options)
    with pytest.raises(ValueError, match=r"Plugin runs backward passes of its own inside a step"):
        make(Efficient, **options, **changes)


def test_a_criterion_that_sums() -> None:
    def summed(kind: Any, **options: Any) -> Any:
        return kind(**{**options, "criterion": nn.CrossEntropyLoss(reduction="sum")})

    made = make(lambda **o: summed(EfficientNaive, **o))
    assert isinstance(made, Naive)
    with pytest.raises(ValueError, match=r"accumulate=2 needs a criterion.*'sum'"):
        make(lambda **o: summed(EfficientNaive, **o), accumulate=2)
