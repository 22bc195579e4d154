"""The base of methods whose terms have a weight, which may be found in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_choice, named_kind
from avalanche_proxyfda._float64 import widest
from avalanche_proxyfda._online import is_first_part, whole_experience
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import preserved_rng
from avalanche_proxyfda.distributed.ranks import Shard, sum_over_ranks
from avalanche_proxyfda.plugins.base.auto_weight import (
    RESOLVED,
    USUAL_DELTA,
    USUAL_DRIFT,
    USUAL_SHARE,
    AutoWeight,
    Constraint,
    Rule,
    Weight,
    check_weight,
    drifted,
)
from avalanche_proxyfda.plugins.base.averaged import TeacherPlugin
from avalanche_proxyfda.plugins.base.lifecycle import TeacherChoice, Terms, Weighed
from avalanche_proxyfda.plugins.base.terms import FiniteWatch, check_terms


class WeightedPlugin(TeacherPlugin):
    """Weighs a method's terms by a number, or finds their weight with ``weight="auto"``.

    With ``"auto"``, the terms of the training batch are one constraint, and those of the
    reference batch another. The plugin publishes for each the mean ``weight`` of the epoch, the
    ``multiplier`` and the share ``tolerance_used``; ``reference_`` comes before the names of
    the second. The multiplier is kept from one experience to the next.

    Args:
        weight: lambda, the coefficient of the method's term: a number, or ``"auto"``.
        choice, teacher_decay, feature_module, name: see :class:`TeacherPlugin`.
        reference_weight: coefficient of the terms on the reference data: a number or
            ``"auto"``; None takes the plugin's weight.
        auto_weight: options of ``"auto"``; None takes the defaults of
            :class:`~avalanche_proxyfda.plugins.base.auto_weight.AutoWeight`, whose ``delta``,
            ``drift`` and ``share`` of None take :attr:`usual_delta`, :attr:`usual_drift` and
            :attr:`usual_share`.

    Raises:
        TypeError, ValueError: for a weight that is neither, or options without ``"auto"``.
    """

    usual_delta: ClassVar[float] = USUAL_DELTA
    """Tolerance of ``weight="auto"`` where ``auto_weight`` gives none, in units of the term."""
    usual_share: ClassVar[float] = USUAL_SHARE
    """Limit of the term's share where ``auto_weight`` gives none."""
    usual_drift: ClassVar[float] = USUAL_DRIFT
    """Drift that gives the unit of the term where ``auto_weight`` gives none."""
    least_unit: ClassVar[float] = RESOLVED
    """Smallest unit of the term that is more than rounding."""
    auto_rule: ClassVar[Rule] = "limit"
    """How ``weight="auto"`` sets the weight. ``"limit"`` holds the term below a limit.
    ``"share"`` keeps the term at its share of the loss; it is for a term that has a gradient
    where student and teacher agree, as FDA's, since training can lower such a term to below its
    value there. With ``"drift"``, the term would have that share if the features drifted by a
    fixed size, as for LDIFS."""
    reads_whole_batch: ClassVar[bool] = False
    """True if a method gathers its features over ranks, so that each rank has all rows."""

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        choice: TeacherChoice,
        teacher_decay: float | None = None,
        feature_module: str | None = None,
        name: str | None = None,
        reference_weight: Weight | None = None,
        auto_weight: AutoWeight | None = None,
    ) -> None:
        place: dict[str, Any] = {"feature_module": feature_module, "name": name}
        super().__init__(choice=choice, teacher_decay=teacher_decay, **place)
        self.weight: Weight = check_weight("weight", weight)
        self.reference_weight: Weight | None = (
            None if reference_weight is None else check_weight("reference_weight", reference_weight)
        )
        self.automatic = "auto" in (self.weight, self.reference_weight)
        """True if a weight is ``"auto"``."""
        if auto_weight is not None and not isinstance(auto_weight, AutoWeight):
            raise TypeError(
                f"auto_weight is {named_kind(auto_weight)}: pass AutoWeight(delta=…), or None"
            )
        if auto_weight is not None and not self.automatic:
            raise ValueError(
                f"auto_weight={auto_weight} has no effect with weight={weight}: pass "
                "weight='auto', or leave auto_weight out"
            )
        check_choice(f"{type(self).__name__}.auto_rule", self.auto_rule, get_args(Rule))
        if self.automatic:
            limit = "maximum" if self.auto_rule == "limit" else "share"
            self._watch = FiniteWatch(strength=f"the {limit} of {self.name}'s auto_weight")
        options = AutoWeight() if auto_weight is None else auto_weight
        for name in ("delta", "penalty", "maximum") if self.auto_rule != "limit" else ():
            value = getattr(options, name)
            if value != getattr(AutoWeight, name):
                raise ValueError(
                    f"{name}={value} has no effect with {type(self).__name__}, whose automatic "
                    f"weight has no tolerance: give AutoWeight a share, or omit {name}"
                )
        self.auto_weight = replace(
            options,
            delta=self.usual_delta if options.delta is None else options.delta,
            drift=self.usual_drift if options.drift is None else options.drift,
            share=self.usual_share if options.share is None else options.share,
        )
        self._shard: Shard | None = None  # of the training batch
        self.constraints: dict[str, Constraint] = {}
        """Constraints by the prefix of their metrics, ``""`` and ``"reference_"``."""
        self.on_reference = False
        """True while the terms on reference data are computed."""
        self.measuring = False
        """True while a comparison only measures; a method then keeps nothing of the batch."""

    # ---- a step -----------------------------------------------------------------------

    def deepest(self) -> Any:
        """Return index or key of the deepest place in the features; None for the last entry."""
        return None

    def at_drift(self, compare: Callable[[Any, Any], Terms], teacher: Any) -> Tensor:
        """Return the term at a drift of the teacher's features, which gives its unit.

        Args:
            compare: returns the terms of student and teacher.
            teacher: as ``compare`` takes it.
        """
        rows = None if self.reads_whole_batch else self._shard
        assert self.auto_weight.drift is not None
        value = _total(
            compare(drifted(teacher, self.auto_weight.drift, self.deepest(), rows), teacher)
        )
        assert value is not None
        return value

    def remember(self, teacher: Any) -> None:
        """Keep features of a training batch that later batches are compared with; here none.

        The call comes after the batch's own comparisons, those that measure the scale included.

        Args:
            teacher: as :meth:`measured` takes it.
        """

    def measured(self, compare: Callable[[Any, Any], Terms], student: Any, teacher: Any) -> Terms:
        """Return the terms of a batch; the first batch of an experience gives the scale.

        Args:
            compare: returns the terms of student and teacher.
            student: as ``compare`` takes it.
            teacher: as ``compare`` takes it.

        Raises:
            TypeError: if ``compare`` returns no terms.
            ValueError: if the scale is not finite or zero.
        """
        terms = compare(student, teacher)
        check_terms(type(self).__name__, terms)
        own = _total(terms)
        if own is not None and self._constraint().level is None:
            self._measure(own, compare, teacher)
        if not self.on_reference:
            self.remember(teacher)
        return terms

    def _measure(self, own: Tensor, compare: Callable[[Any, Any], Terms], teacher: Any) -> None:
        """Set the scale from the first value of an experience, and from two further comparisons."""
        constraint = self._constraint()
        new = self.choice != "initial"
        self.measuring = True
        try:
            with torch.no_grad(), preserved_rng(own.device):
                level = _total(compare(teacher, teacher))
                rise = self.at_drift(compare, teacher)
        finally:
            self.measuring = False
        assert level is not None
        first, agreed, moved = self._whole(own, level, rise)
        constraint.measure(
            self.name,
            first=float(first),
            agreed=float(agreed),
            moved=float(moved),
            new=new,
            least=self.least_unit,
        )
        self._warn_of_scale(constraint, float(agreed))

    def _warn_of_scale(self, constraint: Constraint, agreed: float) -> None:
        """Warn once of a level or noise that makes the automatic weight too large or 0."""
        noise = (constraint.noise or 0.0) / constraint.unit
        if self.auto_rule == "drift" and noise > 1:
            self.warn_once(
                "noise",
                f"{self.name}: weight='auto' begins with a term of {noise:.3g} units before any "
                "step, though student and teacher have the same weights: batch norms in training "
                "mode or dropout change the student's features. This noise weighs that many times "
                "as much as the drift that has its share of the loss. Freeze the statistics of "
                "batch norms, lower the dropout, or give weight a number",
            )
        if self.auto_rule != "limit":
            return
        if agreed >= constraint.unit:
            self.warn_once(
                "level",
                f"{self.name}: weight='auto' begins at a term of {agreed:.3g}, though the "
                "features are the teacher's own: such a term pulls at the features from the first "
                "step on, and the automatic weight may stop the learning. Give weight a number "
                "that validation data choose, or set auto_rule = 'share' in the plugin's class",
            )
        if noise > 1:
            self.warn_once(
                "noise",
                f"{self.name}: weight='auto' begins with a term of {noise:.3g} units before any "
                "step, though student and teacher have the same weights: batch norms in training "
                "mode or dropout change the student's features. This noise becomes part of the "
                "level, so the weight may stay 0. Freeze the statistics of batch norms, lower the "
                "dropout, or give weight a number",
            )

    def weighed(self, strategy: Strategy, terms: Terms, *, on_reference: bool = False) -> Weighed:
        """Return the terms with numbers or tensors as coefficients.

        Args:
            strategy: in ``before_backward``.
            terms: the terms of a batch, from :meth:`measured`.
            on_reference: True for terms on reference data.
        """
        own = _total(terms)
        if own is None:
            return {n: (c, value) for n, (c, value) in terms.items() if not isinstance(c, str)}
        constraint = self._constraint(on_reference)
        total, task = self._whole(own, self.task_value(strategy))
        weight = constraint.weight_of(total, task, _measured_constraints(strategy))
        constraint.note(total, weight, 1.0 if self._shard is None else self._shard.share)
        return {n: (weight if isinstance(c, str) else c, value) for n, (c, value) in terms.items()}

    def _whole(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return scalars of the whole batch, the same on every rank, from those of this process."""
        if self._shard is None:
            return values
        rows = torch.stack([value.to(widest(value.device)) for value in values]) * self._shard.share
        return tuple(each.to(values[0]) for each in sum_over_ranks(rows))

    def _constraint(self, on_reference: bool | None = None) -> Constraint:
        """Return the constraint of the training batch, or of the reference batch."""
        on_reference = self.on_reference if on_reference is None else on_reference
        prefix = "reference_" if on_reference else ""
        if prefix not in self.constraints:
            self.constraints[prefix] = Constraint(self.auto_weight, rule=self.auto_rule)
        return self.constraints[prefix]

    # ---- an experience ----------------------------------------------------------------

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Measure the scale anew in a new experience; restore the steps of a running epoch."""
        inside = bool(self.pending.get("inside"))
        saved = self.pending.get("auto_weight", {}) if inside else {}
        begins = is_first_part(strategy) and self._within != whole_experience(strategy)
        super().before_training_exp(strategy, **kwargs)
        for prefix, constraint in self.constraints.items():
            if prefix in saved:
                constraint.load_steps(saved[prefix], strategy.device)
            elif begins:
                constraint.forget_scale()

    def means(self) -> dict[str, float]:
        """Return the terms' means; with an automatic weight, also that weight and its multiplier.

        The multiplier is updated first.
        """
        means = super().means()
        for prefix, constraint in self.constraints.items():
            means |= {prefix + name: value for name, value in constraint.end_epoch().items()}
        return means

    def stop(self) -> None:
        """End an experience, also after an exception."""
        super().stop()
        for constraint in self.constraints.values():
            constraint.clear()

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base and the weights, which a script may change in training."""
        state = {**super().state_dict(), "weights": [self.weight, self.reference_weight]}
        if not self.automatic:
            return state
        own = {prefix: each.state_dict() for prefix, each in self.constraints.items()}
        return {**state, "auto_weight": self.pending.get("auto_weight", own)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`.

        Raises:
            ValueError: for the state of a plugin whose weight is automatic where this one's is
                a number, or the other way round.
        """
        saved = state.get("auto_weight")
        if self.automatic != (saved is not None):
            kinds = ("a number", "'auto'") if self.automatic else ("'auto'", "a number")
            raise ValueError(
                f"the loaded state of {self.name} is of a plugin whose weight is {kinds[0]}, and "
                f"the weight of this plugin is {kinds[1]}: build the plugin as it was saved"
            )
        for each in (saved or {}).values():  # states from before the rule was saved have none
            rule = each.get("rule", "limit" if self.auto_rule == "drift" else self.auto_rule)
            if rule != self.auto_rule:
                raise ValueError(
                    f"the automatic weight of the loaded state of {self.name} has the rule "
                    f"{rule!r}, and this plugin's has {self.auto_rule!r}, with other units: go on "
                    "with the version that saved it, or begin the training anew"
                )
        super().load_state_dict(state)
        # a state from before the weights were saved has none
        self.weight, self.reference_weight = state.get(
            "weights", (self.weight, self.reference_weight)
        )
        self.constraints = {}
        for prefix, each in (saved or {}).items():
            self.constraints[prefix] = Constraint(self.auto_weight, rule=self.auto_rule)
            self.constraints[prefix].load_state_dict(each)


def _measured_constraints(strategy: Strategy) -> int:
    """Return how many constraints of the strategy's plugins have a scale in this experience."""
    plugins = [each for each in strategy.plugins if isinstance(each, WeightedPlugin)]
    constraints = [c for plugin in plugins for c in plugin.constraints.values()]
    return sum(each.level is not None for each in constraints)


def _total(terms: Terms) -> Tensor | None:
    """Return the sum of the terms whose weight is ``"auto"``, detached; None without one."""
    values = [value.detach() for weight, value in terms.values() if isinstance(weight, str)]
    return torch.stack(values).sum() if values else None
