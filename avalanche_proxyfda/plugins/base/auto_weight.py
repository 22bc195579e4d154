"""The automatic weight: an augmented Lagrangian, or a share of the task's loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._float64 import float64_device
from avalanche_proxyfda._random import generator
from avalanche_proxyfda.distributed.ranks import Shard
from avalanche_proxyfda.plugins.base.terms import RunningMean, TermLog

USUAL_DELTA = 0.3
"""Tolerance of a method without one of its own: docs/automatic-weight.md says where it is from."""

USUAL_SHARE = 0.5
"""Limit of the share of a method without one of its own; see the same page."""

USUAL_DRIFT = 0.5
"""Drift of a method without one of its own, in standard deviations of the features."""

RESOLVED = 1e-6
"""Smallest unit that two values of a term give. The cosines and norms behind a term are of order
1, and float32 leaves noise of up to 3e-7 where two such numbers cancel; units of real features are
far above."""

Weight = float | Literal["auto"]
"""The coefficient of a method's term: a number, or ``"auto"``."""

Rule = Literal["limit", "share", "drift"]
"""How ``"auto"`` sets the coefficient: ``"limit"`` holds the term below a limit. ``"share"`` keeps
the term at a share of the loss. With ``"drift"``, the term would have that share if the features
drifted by a fixed size."""


def check_weight(name: str, value: Weight) -> Weight:
    """Return ``value``; raise TypeError or ValueError unless it is ``"auto"`` or a number >= 0.

    Example:
        >>> from avalanche_proxyfda.plugins.base.auto_weight import check_weight
        >>> check_weight("weight", 2), check_weight("weight", "auto")
        (2.0, 'auto')
    """
    if isinstance(value, str):
        if value != "auto":
            raise TypeError(f"{name}={value!r} must be a number, or 'auto'")
        return "auto"
    return check_amount(name, value)


@dataclass(frozen=True)
class AutoWeight:
    """Options of ``weight="auto"``: docs/automatic-weight.md gives the rule and its reasons.

    Args:
        delta: the tolerance, above 0. A term may exceed its level by ``delta`` units. None takes
            the plugin's ``usual_delta``: 1 for SoftFDA and PKT, and 0.3 for the others. FDA,
            Proxy-FDA and LDIFS have no tolerance, see ``share``.
        drift: size of the drift that gives the unit, above 0, in standard deviations of the
            features over the batch; for LDIFS as a share of the norms of its maps. None takes the
            plugin's ``usual_drift``: 0.12 for LDIFS, and 0.5 for the others.
        penalty: c of the quadratic penalty, above 0, in units of the task's loss. With a
            multiplier of 0, a term that uses its tolerance twice costs c / 2.
        maximum: upper limit of the multiplier and of the multiplier with the penalty, above 0,
            in units of the task's loss.
        share: upper limit of the term's share in its sum with the task's loss, above 0 and below
            1. The task's loss is its mean over the experience so far. Terms with an automatic
            weight divide the limit between them. None takes the plugin's ``usual_share``: 0.25
            for SoftFDA, PKT, FDA and Proxy-FDA, and 0.5 for the others. A tolerance that training
            cannot meet then does not stop the learning. FDA and Proxy-FDA always have this share,
            since their terms pull at the teacher. LDIFS would have it at a drift by ``drift``.

    Raises:
        TypeError, ValueError: for an option that is no finite number above 0, or a share of 1 or
            more.

    Example:
        >>> from avalanche_proxyfda import AutoWeight
        >>> AutoWeight(delta=0)
        Traceback (most recent call last):
        ValueError: delta=0.0 must be above 0: a term that may not rise has no finite weight
    """

    delta: float | None = None
    drift: float | None = None
    penalty: float = 1.0
    maximum: float = 10.0
    share: float | None = None

    def __post_init__(self) -> None:
        why = {
            "delta": "a term that may not rise has no finite weight",
            "drift": "the unit is the rise of the term at this drift",
            "penalty": "the multiplier moves by the penalty",
            "maximum": "the weight would always be 0",
            "share": "the weight would always be 0",
        }
        for name, reason in why.items():
            if getattr(self, name) is None and name in ("delta", "drift", "share"):
                continue
            value = check_amount(name, getattr(self, name))
            if value == 0:
                raise ValueError(f"{name}={value} must be above 0: {reason}")
            object.__setattr__(self, name, value)
        if self.share is not None and self.share >= 1:
            raise ValueError(f"share={self.share} must be below 1: the task must count too")


class Constraint:
    """Holds one term below a limit: the method of multipliers for an inequality.

    With the level l, the unit u and the excess g = (term - l) / (delta u) - 1, the constraint
    is g <= 0. The augmented Lagrangian adds (max(0, y + c g)^2 - y^2) / 2c to the task's loss
    (Rockafellar, 1973; Nocedal and Wright, section 17.4), so the gradient of the term has the
    coefficient :meth:`weight_of`. The multiplier y is updated once an epoch by the mean of g.
    The share s limits the coefficient: coefficient * max(term - l, delta u) is at most
    s / (1 - s) of the task's mean loss in the experience, divided by the number of constraints.

    The other two rules have no constraint, and y stays as it is. With ``"share"``, for a term
    that can fall to below l, the coefficient is at the limit in each step, with l = 0. With
    ``"drift"``, coefficient * u is at the limit in each step, whatever the term is.

    Args:
        options: gives delta (None takes 0.3), the penalty c, the maximum and the share (None
            takes 0.5).
        multiplier: y at the start, >= 0, in units of the task's loss.
        rule: ``"limit"``; ``"share"`` for a term that pulls at the teacher, as FDA's; or
            ``"drift"``.

    Attributes:
        delta: the tolerance.
        share: limit of the term's share in its sum with the task's loss.
        multiplier: y.
        level: value of the term where the student agrees with the teacher; None before
            :meth:`measure`.
        unit: rise of the term that counts as 1, above 0.
        noise: part of the level that dropout or batch norms in training mode add to the first
            value of an experience whose student has the teacher's weights; None before.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import AutoWeight
        >>> from avalanche_proxyfda.plugins.base.auto_weight import Constraint
        >>> constraint = Constraint(AutoWeight(delta=0.5, penalty=2.0))
        >>> constraint.measure("LDIFS", first=0.0, agreed=0.0, moved=4.0, new=True)
        >>> task = torch.tensor(9.0)
        >>> float(constraint.weight_of(torch.tensor(1.0), task))  # below the limit, which is 2
        0.0
        >>> float(constraint.weight_of(torch.tensor(3.0), task))  # c g / (delta u) = 2 * 0.5 / 2
        0.5
        >>> task = torch.tensor(3.0)  # the mean over three steps is then 7
        >>> float(constraint.weight_of(torch.tensor(7.0), task))  # as large as the mean loss
        1.0
        >>> constraint.update(3.0)
        1.0
    """

    def __init__(
        self, options: AutoWeight, multiplier: float = 0.0, *, rule: Rule = "limit"
    ) -> None:
        self.options = options
        self.rule = rule
        self.delta = USUAL_DELTA if options.delta is None else options.delta
        self.share = USUAL_SHARE if options.share is None else options.share
        self.multiplier = multiplier
        self.level: float | None = None
        self.unit = math.nan
        self.noise: float | None = None
        self._log = TermLog()
        self._task = RunningMean()  # over the experience

    # ---- the scale --------------------------------------------------------------------

    def measure(
        self,
        name: str,
        *,
        first: float,
        agreed: float,
        moved: float,
        new: bool,
        least: float = RESOLVED,
    ) -> None:
        """Set level and unit from three values of the term, on one batch.

        Args:
            name: the plugin, for messages.
            first: value of student and teacher.
            agreed: value of the teacher against itself.
            moved: value of the teacher's features after a drift, against the teacher.
            new: True if the student has the teacher's weights, so that ``first`` is the level.
            least: smallest unit that is more than rounding.

        Raises:
            ValueError: if a value is not finite, or a drift moves the term by less than ``least``.
        """
        drift = USUAL_DRIFT if self.options.drift is None else self.options.drift
        if not all(map(math.isfinite, (first, agreed, moved))):
            raise ValueError(
                f"{name}: weight='auto' measures the term on the first batch, and it is {first:g}, "
                f"{agreed:g} between the teacher and itself, and {moved:g} at a drift of "
                f"{drift:g}: features hold NaN or Inf; check the data, lower the learning rate, or "
                "give weight a number"
            )
        unit = max(agreed, moved - agreed)
        if unit < least and self.rule == "drift":
            raise ValueError(
                f"{name}: weight='auto' gives a drift by {drift:g} its share of the loss, and the "
                f"term rises by {unit:.2g} there, below {least:g}, which is no more than rounding: "
                "the features are zero or nearly alike, the batch has one sample, or the drift is "
                "too small; raise train_mb_size or the drift of auto_weight, or give weight a "
                "number"
            )
        if unit < least:
            raise ValueError(
                f"{name}: weight='auto' measures the rise of the term at a drift of the features "
                f"by {drift:g} standard deviations of the batch, and it is {moved - agreed:.2g}, "
                f"below {least:g}, the least that float32 resolves: the batch has one sample, "
                "all its samples have the same features, or their features are nearly alike; with "
                "one sample, raise train_mb_size; else compare features that tell samples apart, "
                "at another place of the model, or give weight a number"
            )
        if new or self.noise is None:
            self.noise = first - agreed
        self.level, self.unit = agreed + self.noise, unit

    def forget_scale(self) -> None:
        """Measure again at the next batch, and start the mean of the task's loss anew."""
        self.level, self.unit = None, math.nan
        self._task.clear()

    # ---- a step -----------------------------------------------------------------------

    def weight_of(self, value: Tensor, task: Tensor, constraints: int = 1) -> Tensor:
        """Return the coefficient of the term, a scalar without gradient on the term's device.

        Call once a step, since the task's loss becomes part of its mean over the experience.

        Args:
            value: the term, a scalar.
            task: the task's loss of the same step, a scalar.
            constraints: number of constraints that divide the limit between them, >= 1.
        """
        options, budget = self.options, self.delta * self.unit
        assert self.level is not None
        part = self.share / (1 - self.share) / constraints
        limit = (self._task.add(task) * part).to(value)
        if self.rule == "drift":
            return limit / self.unit
        level = 0.0 if self.rule == "share" else self.level
        limit = limit / (value.detach() - level).clamp(min=budget)
        if self.rule == "share":
            return limit
        excess = (value.detach() - self.level) / budget - 1
        weight = (excess * options.penalty + self.multiplier).clamp(0, options.maximum) / budget
        return torch.minimum(weight, limit)

    def note(self, value: Tensor, weight: Tensor, share: float = 1.0) -> None:
        """Add term and coefficient of one step to the means of the epoch.

        Args:
            value: the term of the whole batch, the same on every rank.
            weight: its coefficient, the same on every rank.
            share: weight of this rank in sums over ranks; the shares of all ranks sum to 1.
        """
        self._log.add({"term": value, "weight": weight}, share)

    # ---- an epoch ---------------------------------------------------------------------

    def update(self, mean: float) -> float:
        """Update the multiplier, and return it: y <- y + c g, between 0 and the maximum.

        Without a constraint, the multiplier stays as it is.

        Args:
            mean: the term's mean over the epoch.
        """
        if self.rule != "limit":
            return self.multiplier
        options = self.options
        moved = self.multiplier + options.penalty * (self.used(mean) - 1)
        self.multiplier = min(max(moved, 0.0), options.maximum)
        return self.multiplier

    def used(self, value: float) -> float:
        """Return the share of the tolerance that a value of the term uses; 1 is the limit.

        With the rule ``"drift"``, the value counts from 0, since noise costs as much as a drift.
        """
        assert self.level is not None
        level = 0.0 if self.rule == "drift" else self.level
        return (value - level) / (self.delta * self.unit)

    def end_epoch(self) -> dict[str, float]:
        """Update the multiplier by the noted steps; return the values that are published.

        ``weight`` is the mean coefficient of the epoch, ``multiplier`` the multiplier that the
        next epoch begins with, and ``tolerance_used`` the mean share. Empty without a step.
        """
        means = self._log.means()
        self._log.clear()
        if not means:
            return {}
        share = self.used(means["term"])
        multiplier = self.update(means["term"])
        return {"weight": means["weight"], "multiplier": multiplier, "tolerance_used": share}

    def clear(self) -> None:
        """Forget the steps of an epoch that did not end."""
        self._log.clear()

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return rule, multiplier, scale, and the means of the running epoch and experience."""
        return {
            "rule": self.rule,
            "multiplier": self.multiplier,
            "level": self.level,
            "unit": self.unit,
            "floor": self.noise,
            "log": self._log.state_dict(),
            "task": self._task.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state`` without the means of the running epoch and experience."""
        self.multiplier, self.level, self.unit = state["multiplier"], state["level"], state["unit"]
        self.noise = state["floor"]

    def load_steps(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Load the means of the running epoch and experience onto ``device``."""
        self._log.load_state_dict(state["log"], device)
        self._task.load_state_dict(state["task"], device)


def drifted(features: Any, drift: float, deepest: Any = None, shard: Shard | None = None) -> Any:
    """Return features after a random drift, the same for the same features.

    The deepest place of a sequence or mapping drifts alone, since training moves deep places
    much further than shallow ones.

    Args:
        features: a tensor [B, ...], or a sequence or mapping of values.
        drift: size of the drift, in standard deviations of the tensor over the batch.
        deepest: index or key of the deepest place; None takes the last entry.
        shard: this rank's part of the batch, if the tensors have this rank's rows alone: the
            drift is then that of the whole batch. None if they have all rows.

    Returns:
        A new tensor of the same shape and dtype; a list or a dict for a sequence or mapping. A
        value that is no tensor of floats stays as it is.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.plugins.base.auto_weight import drifted
        >>> rows = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
        >>> (drifted(rows, 0.1) - rows).abs().max() < 0.5
        tensor(True)
        >>> torch.equal(drifted(rows, 0.1), drifted([rows], 0.1)[0])
        True
    """
    if isinstance(features, Mapping):
        key = next(reversed(features), None) if deepest is None else deepest
        return {k: drifted(v, drift, None, shard) if k == key else v for k, v in features.items()}
    if isinstance(features, (list, tuple)):
        at = len(features) - 1 if deepest is None else deepest
        return [drifted(v, drift, None, shard) if k == at else v for k, v in enumerate(features)]
    if not isinstance(features, Tensor) or not features.is_floating_point():
        return features
    values = features.detach()
    if shard is not None:
        values = shard.join(values)
    values = values.to(float64_device(values.device)).double()
    spread = (values - values.mean(dim=0)).square().mean().sqrt()
    noise = torch.randn(values.shape, generator=generator("drift"), dtype=torch.float64)
    values = (values + drift * spread * noise.to(values.device)).to(features.dtype)
    values = values.to(features.device)
    if shard is None:
        return values
    # a rank without rows computes one row that has no weight
    return values[shard.rank :: shard.world] if shard.rows else features
