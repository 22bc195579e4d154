"""The methods that the benchmarks compare, as strings and numbers: nothing here imports torch.

Recipes, the board, the benches and the tests take their list of methods from
:data:`METHODS`. ``benchmarks.methods.plugins`` makes the plugin of a method.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from avalanche_proxyfda._names import nearest

Strength = float | Literal["auto"]
"""Value of a method's knob; ``"auto"`` is found in training, for terms on features."""
_COLOUR = re.compile(r"#[0-9a-f]{6}")
MARKERS = ".,ov^<>12348sp*hH+xXDd|_P"
"""Markers of matplotlib that a method may have."""


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        about: one line for ``--help`` and the board.
        version: raised by one whenever the method's numbers change; records keep it, and the
            board marks records of another version as stale.
        colour: on a white page, ``"#rrggbb"``.
        dark_colour: on a dark page.
        marker: matplotlib's marker in the figures.
        plugin: name of the class in ``avalanche_proxyfda.plugins``; None for plain fine-tuning.
        knob: the plugin's argument that a path of strengths runs over; None without one.
        strength: the usual value of the knob, where a recipe gives none.
        grid: the usual strengths to choose from, in ascending order.
        weakens: a larger strength means less of the method.
        trains_tower: False leaves the tower as it is, whatever ``train.lr`` says; the heads train.
        settings: keys of a run's configuration that the method needs, below the recipe's own.
    """

    about: str
    version: int
    colour: str
    dark_colour: str
    marker: str
    plugin: str | None = None
    knob: str | None = None
    strength: float | None = None
    grid: tuple[float, ...] = ()
    weakens: bool = False
    trains_tower: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.about.strip():
            raise ValueError("about is empty: give one line that says what the method does")
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version < 1:
            raise ValueError(f"version={self.version!r} must be a whole number from 1")
        for name in ("colour", "dark_colour"):
            if not _COLOUR.fullmatch(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r} must be #rrggbb in lower case")
        if len(self.marker) != 1 or self.marker not in MARKERS:
            raise ValueError(f"marker={self.marker!r} must be one of {MARKERS}")
        if (self.plugin is None) != (self.knob is None):
            raise ValueError(f"plugin={self.plugin!r}, knob={self.knob!r}: give both or neither")
        if self.knob is not None and (self.strength is None or self.strength not in self.grid):
            raise ValueError(f"strength={self.strength} must be one of grid={self.grid}")
        if self.knob is None and (self.strength is not None or self.grid):
            raise ValueError("strength and grid need a knob")
        if list(self.grid) != sorted(set(self.grid)):
            raise ValueError(f"grid={self.grid} must hold different numbers in ascending order")


_ON_BATCHES = {"options": {"feature_module": "tower"}}
_ON_IMAGES = {"reference_data": {"images": "procedural"}}  # for those who have no images
_ON_IMAGES_AND_TEXTS = {"reference_data": {"images": "procedural", "texts": "random"}}

METHODS: dict[str, Method] = {
    "finetune": Method(
        about="plain fine-tuning, heads as torch initialises them",
        version=1,
        colour="#57606a",
        dark_colour="#9aa7b4",
        marker="s",
        settings={"head": {"kind": "random"}},
    ),
    "lp-ft": Method(  # Kumar et al., 2022
        about="plain fine-tuning, heads fitted by a linear probe first",
        version=1,
        colour="#24292f",
        dark_colour="#f0f6fc",
        marker="X",
    ),
    "frozen": Method(
        about="the tower stays as it is; heads are fitted by a linear probe, then trained",
        version=1,
        colour="#3730a3",
        dark_colour="#a5b4fc",
        marker="d",
        trains_tower=False,
    ),
    "l2sp": Method(
        about="L2-SP: pulls the weights back to where they were; the number is λ",
        version=1,
        colour="#b35900",
        dark_colour="#f0a35e",
        marker="D",
        plugin="L2SPPlugin",  # Li et al., 2018
        knob="weight",
        strength=0.5,
        grid=(0.05, 0.1, 0.5, 1, 10),
    ),
    "ldifs": Method(
        about="LDIFS: holds features at five depths near the old model's; the number is λ",
        version=1,
        colour="#0969da",
        dark_colour="#79b8ff",
        marker="^",
        plugin="LDIFSPlugin",  # Mukhoti et al., 2024; with their norm over tokens
        knob="weight",
        strength=10,
        grid=(0.1, 1, 10, 100, 1000),
    ),
    "digrap": Method(
        about="DiGraP: takes out of gradients what leads away from the old weights; "
        "the number is μ",
        version=2,  # 2: no ε in the projection, Adam's count, the head is projected too
        colour="#8250df",
        dark_colour="#c9a6ff",
        marker="v",
        plugin="DiGraPPlugin",
        knob="mu",
        strength=0.5,
        grid=(0.01, 0.1, 0.5, 1, 10),  # strength and grid are those of the authors (2025)
    ),
    "adam-spd": Method(
        about="AdamSPD: shortens steps that lead away from the old weights; the number is w",
        version=1,
        colour="#2f6f3e",
        dark_colour="#8fd694",
        marker="8",
        plugin="AdamSPDPlugin",  # Tian et al., 2024; after AdamW's own step
        knob="weight",
        strength=1,
        grid=(0.1, 0.3, 1, 3, 10),
    ),
    "rift": Method(
        about="RIFT: holds covariances of features near the old model's; the number is λ",
        version=1,
        colour="#1a7f64",
        dark_colour="#4cc9a4",
        marker="P",
        plugin="RIFTPlugin",  # 2025; covariances are compared without a rotation
        knob="weight",
        strength=1,
        grid=(0.01, 0.1, 1, 10, 100),
    ),
    "rkd": Method(
        about="RKD: keeps distances and angles between the features of a batch; the number is λ",
        version=1,
        colour="#bf3989",
        dark_colour="#ff9bce",
        marker="o",
        plugin="RKDPlugin",  # Park et al., 2019; distances to angles as 1 to 2
        knob="weight",
        strength=1,
        grid=(0.1, 1, 10, 100, 1000),
    ),
    "pkt": Method(
        about="PKT: keeps which other images of a batch each one resembles; the number is λ",
        version=1,
        colour="#a04ac2",
        dark_colour="#e3a8ff",
        marker="H",
        plugin="PKTPlugin",  # Passalis and Tefas, 2018; softmax of cosines, scale 10
        knob="weight",
        strength=1,
        grid=(0.1, 1, 10, 100, 1000),
    ),
    "lwf": Method(
        about="LwF: keeps the old heads' answers on the new images; the number is λ",
        version=1,
        colour="#5a6500",
        dark_colour="#c6d03a",
        marker="<",
        plugin="LwFPlugin",  # Li and Hoiem, 2016; T = 2, summed over the old heads
        knob="weight",
        strength=1,
        grid=(0.3, 1, 3, 10, 30),
    ),
    "wise-ft": Method(
        about="WiSE-FT: averages new and old weights after training; the number is α, 1 is all new",
        version=1,
        colour="#9a3412",
        dark_colour="#ff9f7a",
        marker=">",
        plugin="WiSEFTPlugin",  # Wortsman et al., 2022; after each experience
        knob="alpha",
        strength=0.5,
        grid=(0.3, 0.5, 0.7, 0.8, 0.9),
        weakens=True,
    ),
    "magmax": Method(
        about="MagMax: ships the largest change of each weight over all tasks; the number is λ, "
        "its factor",
        version=1,
        colour="#8c5a2b",
        dark_colour="#d9b38c",
        marker="d",
        plugin="MagMaxPlugin",  # Marczak et al., 2024; 0.5 is the authors'
        knob="scale",
        strength=0.5,
        grid=(0.25, 0.5, 0.65, 0.8, 1),
        weakens=True,
        settings={"reference": "initial"},
    ),
    "averaging": Method(
        about="averaging: ships the moving average of the weights in training; "
        "the number is its decay",
        version=1,
        colour="#00736b",
        dark_colour="#66d9cc",
        marker="x",
        plugin="AveragingPlugin",  # ZSCL, 2023; an exponential moving average of each step
        knob="decay",
        strength=0.999,
        grid=(0.9, 0.97, 0.99, 0.999, 0.9999),
    ),
    "zscl": Method(
        about="ZSCL: keeps similarities of reference images and texts, both ways; the number is λ",
        version=2,
        colour="#7a4a00",
        dark_colour="#e3b76b",
        marker="1",
        plugin="ZSCLPlugin",  # Zheng et al., 2023; the distillation alone, T = 2
        knob="weight",
        strength=1,
        grid=(0.1, 0.3, 1, 3, 10),
        settings={"reference": "initial", **_ON_IMAGES_AND_TEXTS},
    ),
    "lipsum-ft": Method(
        about="Lipsum-FT: keeps the logits of training images with random texts; the number is λ",
        version=2,
        colour="#00695c",
        dark_colour="#80d8c9",
        marker="8",
        plugin="LipsumFTPlugin",  # Nam et al., 2024
        knob="weight",
        strength=1,
        grid=(0.01, 0.1, 1, 10, 100),
        settings={"reference": "initial", **_ON_IMAGES_AND_TEXTS},
    ),
    "snd": Method(
        about="SND: holds reference features near the previous or the first model; the number is λ",
        version=1,
        colour="#6d1f52",
        dark_colour="#ec94c6",
        marker="x",
        plugin="SNDPlugin",  # Yu et al., 2024; the weights are 9 and 0.5 within
        knob="weight",
        strength=1,
        grid=(0.1, 0.3, 1, 3, 10),
        settings=_ON_IMAGES,
    ),
    "dive": Method(
        about="DiVE: lets all reference features move by one vector; the number is λ",
        version=1,
        colour="#2e5d1f",
        dark_colour="#9bd58a",
        marker="+",
        plugin="DiVEPlugin",  # Suzuki et al., 2026; the image term, second-hand
        knob="weight",
        strength=1,
        grid=(0.1, 1, 10, 100, 1000),
        settings={"reference": "initial", **_ON_IMAGES},
    ),
    "fda": Method(
        about="FDA: keeps who is near whom, and how near, in the features of a batch; "
        "the number is λ",
        version=2,
        colour="#0e7490",
        dark_colour="#5fd0e6",
        marker="p",
        plugin="FDAPlugin",  # Huang et al., 2025
        knob="weight",
        strength=1,
        grid=(0.1, 0.3, 1, 3, 10),
        settings=_ON_BATCHES,
    ),
    "proxy-fda": Method(
        about="Proxy-FDA: FDA with generated features (proxies) among the neighbours; "
        "the number is λ",
        version=2,
        colour="#cf222e",
        dark_colour="#ff7b72",
        marker="h",
        plugin="ProxyFDAPlugin",  # Huang et al., 2025
        knob="weight",
        strength=1,
        grid=(0.1, 0.3, 1, 3, 10),
        settings=_ON_BATCHES,
    ),
    "soft-fda": Method(
        about="SoftFDA: keeps each image's distribution over the others, zero where nothing "
        "changed; the number is λ",
        version=1,
        colour="#8a1c7c",
        dark_colour="#f2a3e6",
        marker="D",
        plugin="SoftFDAPlugin",  # ours, after Passalis and Tefas, 2018
        knob="weight",
        strength=1,
        grid=(0.1, 0.3, 1, 3, 10),
    ),
}

PLAIN = ("lp-ft", "finetune")
"""Plain fine-tuning; the others are compared with the first of these that has a run."""


def check_method(method: str) -> str:
    """Return ``method``.

    Raises:
        ValueError: when it is unknown; names the nearest.
    """
    if method not in METHODS:
        near = nearest(method, METHODS, 1)
        raise ValueError(
            f"method={method!r} is unknown; "
            + (f"did you mean {near[0]!r}? " if near else "")
            + f"choose one of {tuple(METHODS)}"
        )
    return method


def strength_text(strength: Strength) -> str:
    """Return a strength to read.

    Example:
        >>> strength_text(1000.0), strength_text("auto")
        ('1000', 'auto')
    """
    return strength if isinstance(strength, str) else f"{strength:g}"


def strength_of_text(text: str) -> Strength:
    """Return the strength that a command line gives.

    Raises:
        ValueError: for a text that is neither a number nor ``auto``.
    """
    return "auto" if text == "auto" else float(text)


def needed_strength(method: str) -> str:
    """Says that ``method`` needs a strength, and which are usual."""
    known = METHODS[method]
    grid = ", ".join(f"{value:g}" for value in known.grid)
    return f"needs one ({known.knob}); usual is {known.strength:g}, of the grid {grid}"


def with_strength() -> str:
    """Names the methods that have a strength."""
    return "methods with a strength: " + ", ".join(m for m, known in METHODS.items() if known.knob)


def place_of(method: str) -> int:
    """Place of a method in the registry, from 0; an unknown method comes after all others."""
    names = list(METHODS)
    return names.index(method) if method in names else len(names)


def version_of(method: str) -> int | None:
    """The present version of ``method``; None for a method that is unknown here."""
    return METHODS[method].version if method in METHODS else None
