"""The methods that the benchmarks compare: what makes each, its strength, and its recipe."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from avalanche_proxyfda import (
    DiGraPPlugin,
    FDAPlugin,
    L2SPPlugin,
    LDIFSPlugin,
    LPFTPlugin,
    LwFPlugin,
    ProxyFDAPlugin,
    RIFTPlugin,
    RKDPlugin,
    WiSEFTPlugin,
)
from avalanche_proxyfda.plugins.reference import ReferencePlugin

RECIPES = Path(__file__).parent / "recipes"
Build = Callable[..., ReferencePlugin[Any]]


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        build: its plugin, given ``strength`` under the name of ``knob``, the reference
            choice under the name of ``reference``, and the recipe's options; None for plain
            fine-tuning.
        knob: the argument that the path runs over; None where there is none.
        reference: ``"teacher"`` or ``"anchor"``.
        seeded: whether it draws random numbers of its own.
        weakens: whether a larger strength means less of the method.
        probed_heads: whether heads start as linear probes. All but plain fine-tuning with
            random heads do, so that methods differ by what they add.
    """

    build: Build | None = None
    knob: str | None = None
    reference: str = "teacher"
    seeded: bool = False
    weakens: bool = False
    probed_heads: bool = True

    def plugins(
        self, strength: float | None, reference: str, seed: int, options: Mapping[str, Any]
    ) -> list[ReferencePlugin[Any]]:
        """The plugins that make the method, in their order."""
        # the penalty that the probes of the pre-trained tower chose most often on validation data
        made: list[ReferencePlugin[Any]] = [LPFTPlugin(l2=1e-4)] if self.probed_heads else []
        if self.build is not None and self.knob is not None:
            given = {self.knob: strength, self.reference: reference, **options}
            if self.seeded:
                given["seed"] = seed
            made.append(self.build(**given))
        return made


METHODS: dict[str, Method] = {
    "finetune": Method(probed_heads=False),
    "lp-ft": Method(),
    "l2sp": Method(L2SPPlugin, "weight", "anchor"),
    "ldifs": Method(LDIFSPlugin, "weight"),
    "digrap": Method(DiGraPPlugin, "mu", "anchor"),
    "rift": Method(RIFTPlugin, "weight"),
    "rkd": Method(RKDPlugin, "weight"),
    "lwf": Method(LwFPlugin, "weight"),
    "wise-ft": Method(WiSEFTPlugin, "alpha", "anchor", weakens=True),
    "fda": Method(FDAPlugin, "weight", seeded=True),
    "proxy-fda": Method(ProxyFDAPlugin, "weight", seeded=True),
}


@dataclass(frozen=True)
class Recipe:
    """How a method is run on a stream, from ``recipes/<stream>/<method>.yaml``.

    Attributes:
        method: one of :data:`METHODS`.
        strength: the setting chosen on validation data; None where there is no knob.
        coarse: the strengths of a quick path.
        grid: the strengths of a full one, as many for every method.
        options: further arguments of the plugin.
    """

    method: str
    strength: float | None = None
    coarse: tuple[float, ...] = ()
    grid: tuple[float, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()


@cache
def recipe(method: str, stream: str = "concepts") -> Recipe:
    """The recipe of a method on a stream.

    Raises:
        ValueError: when the method is unknown, or the file holds an unknown key.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=1)
        raise ValueError(
            f"method={method!r} is unknown; "
            + (f"did you mean {near[0]!r}? " if near else "")
            + f"choose one of {tuple(METHODS)}"
        )
    return read_recipe(RECIPES / stream / f"{method}.yaml")


def read_recipe(path: Path) -> Recipe:
    """Read one recipe; raises ValueError for keys and methods that do not exist."""
    content = yaml.safe_load(path.read_text())
    known = Recipe.__dataclass_fields__
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{path.name}: {key!r} is not a key of a recipe{hint}")
    if content.get("method") not in METHODS:
        raise ValueError(f"{path.name}: method={content.get('method')!r} is unknown")
    for name in ("coarse", "grid"):
        content[name] = tuple(float(x) for x in content.get(name, ()))
    content["options"] = tuple(sorted(content.get("options", {}).items()))
    return Recipe(**content)
