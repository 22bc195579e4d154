"""One check of the acceptance, its outcome, and how a group of checks is declared."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Setting:
    """The device under acceptance, and how much is checked.

    Attributes:
        device: device of all checks.
        quick: True takes the smallest size of each check.
    """

    device: torch.device
    quick: bool = False

    @property
    def on_cpu(self) -> bool:
        """True if no accelerator is checked."""
        return self.device.type == "cpu"


class Skip(Exception):  # noqa: N818 (it is no error)
    """Raised by a check that cannot be made here; the text is the reason."""


class Fault(Exception):  # noqa: N818 (the name of what is wrong with the machine)
    """Raised by a check that fails; the text names the value and its bound."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: ``"GROUP: DETAIL"``, unique among all checks.
        run: makes the check and returns what it measured, in a few words. It raises
            :class:`Skip` or :class:`Fault`; any other error is a failure too.
    """

    name: str
    run: Callable[[Setting], str]

    @property
    def group(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check.

    Attributes:
        name: name of the check.
        status: ``"passed"``, ``"failed"`` or ``"skipped"``.
        about: what was measured, the reason for a skip, or the fault.
        seconds: duration of the check.
        trace: Python's traceback of an unexpected error.
    """

    name: str
    status: Status
    about: str
    seconds: float = field(default=0.0)
    trace: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the outcome as JSON's values."""
        return asdict(self)


def outcome_of(check: Check, setting: Setting) -> Outcome:
    """Make a check; errors become a failed outcome."""
    started = time.monotonic()

    def finished(status: Status, about: str, trace: str = "") -> Outcome:
        return Outcome(check.name, status, about, round(time.monotonic() - started, 2), trace)

    try:
        return finished("passed", check.run(setting))
    except Skip as reason:
        return finished("skipped", str(reason))
    except Fault as fault:
        return finished("failed", str(fault))
    except Exception as error:
        about = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return finished("failed", about, traceback.format_exc())


def within(name: str, value: float, most: float) -> str:
    """Return ``"NAME VALUE"``.

    Raises:
        Fault: if the value is above ``most``, or not a number.

    Example:
        >>> within("difference", 1e-6, 1e-4)
        'difference 1e-06'
    """
    if not value <= most:
        raise Fault(f"{name} is {value:.3g}, at most {most:.3g} is right")
    return f"{name} {value:.2g}"


def relative(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, as a part of the largest expected value.

    Args:
        value: result of the device, any shape.
        expected: result of the reference, of the same shape.

    Example:
        >>> relative(torch.tensor([1.0, 2.2]), torch.tensor([1.0, 2.0])) > 0.09
        True
    """
    ours, theirs = value.detach().cpu().double(), expected.detach().cpu().double()
    if not bool(torch.isfinite(ours).all()):
        return float("nan")
    size = float(theirs.abs().max()) or 1.0
    return float((ours - theirs).abs().max()) / size
