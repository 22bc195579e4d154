"""Running means of a plugin's terms, and a check for values that are not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from avalanche.evaluation.metric_results import MetricValue
from torch import Tensor

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._float64 import widest
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.ranks import active, sum_over_ranks


def check_terms(owner: str, terms: Any) -> None:
    """Check what a method's ``compare`` returned.

    Args:
        owner: name of the plugin's class.
        terms: the result of ``compare``.

    Raises:
        TypeError: unless it is a dict of pairs, each of a factor and a scalar tensor.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.plugins.base.terms import check_terms
        >>> check_terms("Mine", {"distance": (1.0, torch.tensor(0.5))})
    """
    remedy = 'return {"name": (factor, value)} with a scalar tensor as value, such as a mean'
    if not isinstance(terms, Mapping):
        raise TypeError(f"{owner}.compare returned {named_kind(terms)}: {remedy}")
    for name, term in terms.items():
        pair = isinstance(term, tuple) and len(term) == 2
        if pair and isinstance(term[1], Tensor) and term[1].ndim == 0:
            continue
        value = term[1] if pair else term
        about = named_kind(value)
        if isinstance(value, Tensor):
            about += f" of shape {list(value.shape)}"
        about += " without a factor" if not pair else " as its value"
        raise TypeError(f"{owner}.compare returned {name!r} with {about}: {remedy}")


class TermLog:
    """Means of named terms over an epoch; a step does not synchronise with the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, terms: dict[str, Tensor], share: float) -> None:
        """Add the scalars of one step; a step without terms does not count.

        Args:
            terms: scalars by name.
            share: weight of this rank in the mean over ranks.
        """
        self._steps += bool(terms)
        for name, value in terms.items():
            value = value.detach() * share
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def means(self) -> dict[str, float]:
        """Return the mean of each term since the last :meth:`clear`; empty without a step.

        All ranks of a group must call this method, and get the same means.
        """
        if not self._sums:
            return {}
        # one tensor, since each read waits for the device
        totals = torch.stack([total.to(widest(total.device)) for total in self._sums.values()])
        if active():
            totals = sum_over_ranks(totals)
        return {
            name: total / self._steps
            for name, total in zip(self._sums, totals.tolist(), strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """Return sums and steps so far."""
        return {"sums": dict(self._sums), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Load ``state`` onto ``device``."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._steps = int(state["steps"])

    def clear(self) -> None:
        """Reset sums and steps."""
        self._sums, self._steps = {}, 0


class RunningMean:
    """Mean of a scalar since the last :meth:`clear`; no call synchronises with the device.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.plugins.base.terms import RunningMean
        >>> mean = RunningMean()
        >>> [float(mean.add(torch.tensor(value))) for value in (4.0, 2.0)]
        [4.0, 3.0]
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, value: Tensor) -> Tensor:
        """Add a scalar, and return the mean with it, without gradient."""
        value = value.detach()
        self._sum = value if self._sum is None else self._sum + value
        self._count += 1
        return self._sum / self._count

    def state_dict(self) -> dict[str, Any]:
        """Return sum and count."""
        return {"sum": self._sum, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Load ``state`` onto ``device``."""
        total = state["sum"]
        self._sum = None if total is None else total.to(device)
        self._count = int(state["count"])

    def clear(self) -> None:
        """Start anew."""
        self._sum, self._count = None, 0


class TaskLoss:
    """Mean of the strategy's loss before the plugins add their terms, as Avalanche's is: by sample.

    Avalanche's ``Loss_Epoch`` reads the sum of the task's loss and all terms.
    """

    def __init__(self) -> None:
        self._log = TermLog()

    def add(self, loss: Tensor, samples: int, share: float) -> None:
        """Add the loss of one batch of ``samples`` samples; ``share`` as in :class:`TermLog`."""
        value = loss.detach().mean()
        counts = {"loss": value * samples, "samples": value.new_full((), samples)}
        self._log.add(counts, share)

    def means(self) -> dict[str, float]:
        """Return the mean as ``Loss``; empty without a batch. All ranks must call this method."""
        means = self._log.means()
        return {"Loss": means["loss"] / means["samples"]} if means else {}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far."""
        return self._log.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Load ``state`` onto ``device``."""
        self._log.load_state_dict(state, device)

    def clear(self) -> None:
        """Reset the sums."""
        self._log.clear()


def publish(strategy: Strategy, origin: Any, name: str, terms: dict[str, float]) -> None:
    """Pass values to the strategy's evaluator, which logs and returns them.

    Their metrics are called ``<name>_<term>_Epoch/train_phase/<stream>_stream``.

    Args:
        strategy: an Avalanche strategy in training.
        origin: the plugin.
        name: prefix of the metrics.
        terms: values by term.
    """
    evaluator = strategy.evaluator
    if not evaluator.active:
        return
    stream = strategy.experience.origin_stream.name
    for term, value in terms.items():
        key = f"{name}_{term}_Epoch/train_phase/{stream}_stream"
        step = strategy.clock.train_iterations
        evaluator.publish_metric_value(MetricValue(origin, key, value, step))


class FiniteWatch:
    """Raises if values hold NaN or Inf, and names the first bad step.

    Reading a result synchronises host and device. So the check notes the first bad step on the
    device, and reads the note every ``every`` steps. The plugin reads it at the end of an epoch,
    and before a checkpoint is saved.

    Args:
        every: steps between two reads; None means 1 on the CPU and 100 elsewhere.
        strength: the argument that may be too large, for the message.
    """

    def __init__(self, every: int | None = None, strength: str = "the plugin's weight") -> None:
        self._every, self._strength = every, strength
        self._first: Tensor | None = None
        self._steps = 0
        self._where = ""

    def clear(self) -> None:
        """Reset the note."""
        self._first, self._steps = None, 0

    def check(self, where: str, iteration: int, *values: Tensor) -> None:
        """Check the values of one step.

        Args:
            where: the experience, for the message.
            iteration: number of the step in the experience.
            values: tensors on one device.

        Raises:
            ValueError: if a value is NaN or Inf; names experience and iteration of the first.
        """
        good = torch.stack([v.isfinite().all() for v in values]).all()
        bad = torch.where(good, -1, iteration)
        first = bad if self._first is None else torch.where(self._first >= 0, self._first, bad)
        # each epoch ends with a read, so the note always belongs to this experience
        self._first, self._where, self._steps = first, where, self._steps + 1
        every = self._every or (1 if good.device.type == "cpu" else 100)
        if self._steps % every == 0:
            self.look()

    def look(self) -> None:
        """Read the note; raise ValueError as :meth:`check` does."""
        first = -1 if self._first is None else int(self._first)
        self._first = None
        if first >= 0:
            raise ValueError(
                f"features hold NaN or Inf in {self._where}, iteration {first}: the student has "
                f"diverged or the images are broken; lower the learning rate or {self._strength}, "
                "clip gradients, or check the data"
            )
