"""The methods that the benchmarks compare: what makes each, and its strength."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avalanche_proxyfda import (
    DiGraPPlugin,
    FDAPlugin,
    L2SPPlugin,
    LDIFSPlugin,
    LwFPlugin,
    ProxyFDAPlugin,
    RIFTPlugin,
    RKDPlugin,
    WiSEFTPlugin,
)
from avalanche_proxyfda.plugins.reference import ReferencePlugin


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
    """

    build: type[ReferencePlugin[Any]] | None = None
    knob: str | None = None
    reference: str = "teacher"
    seeded: bool = False
    weakens: bool = False

    def plugins(
        self, strength: float | None, reference: str, seed: int, options: Mapping[str, Any]
    ) -> list[ReferencePlugin[Any]]:
        """The method's plugin, in a list.

        Raises:
            TypeError, ValueError: for an option that it does not have, or a bad value.
        """
        if self.build is None or self.knob is None:
            if options:
                raise ValueError(f"options={dict(options)}: plain fine-tuning has none")
            return []
        given = {self.knob: strength, self.reference: reference}
        if self.seeded:
            given["seed"] = seed
        free = [name for name in self.arguments if name not in given]
        for name in options:
            if name not in free:
                near = difflib.get_close_matches(name, free, n=1)
                raise ValueError(
                    f"options.{name} is no argument of {self.build.__name__}; "
                    + (f"did you mean {near[0]!r}?" if near else f"it has {', '.join(free)}")
                )
        return [self.build(**given, **options)]

    @property
    def arguments(self) -> list[str]:
        """Names of the arguments of the plugin, its base classes' included."""
        names: dict[str, None] = {}
        for kind in getattr(self.build, "__mro__", ()):
            if "__init__" in vars(kind) and issubclass(kind, ReferencePlugin):
                for name, parameter in inspect.signature(kind).parameters.items():
                    if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                        names[name] = None
        return list(names)


METHODS: dict[str, Method] = {
    "finetune": Method(),
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


def check_method(method: str) -> str:
    """``method`` itself.

    Raises:
        ValueError: when it is unknown.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=1)
        raise ValueError(
            f"method={method!r} is unknown; "
            + (f"did you mean {near[0]!r}? " if near else "")
            + f"choose one of {tuple(METHODS)}"
        )
    return method
