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
        about: what it does, in a line.
    """

    build: type[ReferencePlugin[Any]] | None = None
    knob: str | None = None
    reference: str = "teacher"
    seeded: bool = False
    weakens: bool = False
    about: str = ""

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
    "finetune": Method(about="plain fine-tuning, heads as torch initialises them"),
    "lp-ft": Method(about="plain fine-tuning, heads fitted by a linear probe first"),
    "l2sp": Method(
        L2SPPlugin, "weight", "anchor",
        about="L2-SP: pulls the weights back to where they were; the number is λ",
    ),
    "ldifs": Method(
        LDIFSPlugin, "weight",
        about="LDIFS: holds features at five depths near the old model's; the number is λ",
    ),
    "digrap": Method(
        DiGraPPlugin, "mu", "anchor",
        about="DiGraP: takes out of gradients what leads away from the old weights; "
        "the number is μ",
    ),
    "rift": Method(
        RIFTPlugin, "weight",
        about="RIFT: holds means and covariances of features near the old model's; "
        "the number is λ",
    ),
    "rkd": Method(
        RKDPlugin, "weight",
        about="RKD: keeps distances and angles between the features of a batch; the number is λ",
    ),
    "lwf": Method(
        LwFPlugin, "weight",
        about="LwF: keeps the old heads' answers on the new images; the number is λ",
    ),
    "wise-ft": Method(
        WiSEFTPlugin, "alpha", "anchor", weakens=True,
        about="WiSE-FT: averages new and old weights after training; the number is α, "
        "1 is all new",
    ),
    "fda": Method(
        FDAPlugin, "weight", seeded=True,
        about="FDA: keeps who is near whom, and how near, in the features of a batch; "
        "the number is λ",
    ),
    "proxy-fda": Method(
        ProxyFDAPlugin, "weight", seeded=True,
        about="Proxy-FDA: FDA with generated features (proxies) among the neighbours; "
        "the number is λ",
    ),
}  # fmt: skip


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
