"""The base of panel metrics: values of each set, before the stream and after each experience."""

from __future__ import annotations

import statistics
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue

from avalanche_proxyfda._online import is_first_part, is_last_part
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.ranks import computed_by_main
from avalanche_proxyfda.metrics.panel import Panel, PanelFeatures


class PanelMetric(PluginMetric[dict[str, float]]):
    """Measures a panel before the stream and after each experience; of several ranks, rank 0 does.

    The metric never calls ``strategy.eval`` and leaves modes, heads and random streams as they
    are: a run with the metric and a run without it end in the same weights.

    :class:`~avalanche_proxyfda.Checkpoints` saves the metric by :meth:`state_dict`. A subclass
    that keeps more than :attr:`history` from moment to moment adds it there and in
    :meth:`load_state_dict`.

    Args:
        panel: data sets; metrics that are given the same panel share its features.

    Attributes:
        symbol: the first part of the names of the values, such as ``LP``.
        settings: names of the attributes that a resumed training must not change.
        history: values by name, one dict a moment; the first moment is before the stream.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import Panel, PanelFeatures, PanelMetric, PanelSet
        >>> class MeanNorm(PanelMetric):
        ...     symbol = "Norm"  # the values are Norm/<set> and Delta_Norm/<set>
        ...     def measure(self, features):
        ...         return {"": float(features.splits["test"][0].norm(dim=1).mean())}
        >>> data = TensorDataset(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))
        >>> metric = MeanNorm(Panel([PanelSet("pets", train=data, test=data)]))
        >>> rows = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> metric.measure(PanelFeatures("pets", {"test": rows}))
        {'': 3.0}
    """

    symbol: str
    settings: tuple[str, ...] = ()

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        if not isinstance(panel, Panel):
            raise TypeError(f"panel={panel!r} must be a Panel")
        self.panel = panel
        self.history: list[dict[str, float]] = []
        self._strategy: weakref.ref[Any] | None = None
        self._first_part = -1  # the clock's count in the first part of an online experience

    @abstractmethod
    def measure(self, features: PanelFeatures) -> dict[str, float]:
        """Values of one set, by the suffix that follows :attr:`symbol` in their names."""

    def result(self) -> dict[str, float] | None:
        """The values of the last moment; None before the first."""
        return self.history[-1] if self.history else None

    def reset(self) -> None:
        """Drop all moments, the first too, and the link to their strategy."""
        self.history, self._strategy = [], None
        self.panel.forget()

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed training needs: settings, names of the sets, and all moments."""
        return {
            "settings": self._described(),
            "history": [dict(moment) for moment in self.history],
            "first_part": self._first_part,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the moments by those of a result of :meth:`state_dict`.

        Raises:
            ValueError: when the saved metric had other sets or settings.
        """
        here, saved = self._described(), dict(state["settings"])
        for name in sorted({*here, *saved}):
            if here.get(name) != saved.get(name):
                raise ValueError(
                    f"{name}={here.get(name)!r} of this {type(self).__name__} differs from "
                    f"{name}={saved.get(name)!r} of the saved one: build the metric as before, or "
                    "begin in a new folder"
                )
        self.history = [dict(moment) for moment in state["history"]]
        self._first_part = state.get("first_part", -1)  # older states lack it
        self._strategy = None
        self.panel.forget()

    def _described(self) -> dict[str, Any]:
        """Names of the sets, and the settings by name."""
        own = {name: getattr(self, name) for name in self.settings}
        return {"sets": tuple(data.name for data in self.panel.sets), **own}

    def before_training(self, strategy: Strategy) -> Any:
        """Measure the initial model, once.

        Raises:
            ValueError: when the metric already holds moments of another strategy.
        """
        if self._strategy is not None and self._strategy() is not strategy:
            raise ValueError(
                f"this {type(self).__name__} holds the moments of another strategy: make one for "
                "each, or call reset()"
            )
        self._strategy = weakref.ref(strategy)
        return None if self.history else self._measure_all(strategy)

    def before_training_exp(self, strategy: Strategy) -> Any:
        """Note the first part of an online experience."""
        if is_first_part(strategy):
            self._first_part = strategy.clock.train_exp_counter

    def after_training_exp(self, strategy: Strategy) -> Any:
        """Measure the model after the experience; after the last part of an online one."""
        return self._measure_all(strategy) if is_last_part(strategy, self._first_part) else None

    def changes(self, values: Mapping[str, float]) -> dict[str, float]:
        """Differences to the first moment, as ``Delta_<name>``; empty in the first moment."""
        if not self.history:
            return {}
        return {f"Delta_{name}": value - self.history[0][name] for name, value in values.items()}

    def _measure_all(self, strategy: Strategy) -> list[MetricValue]:
        """Measure every set, add the means and the changes, and append to the history."""
        by_suffix: dict[str, dict[str, float]] = {}
        for name, measured in computed_by_main(lambda: self._measured(strategy)).items():
            for suffix, value in measured.items():
                by_suffix.setdefault(suffix, {})[name] = value
        values = {
            f"{self.symbol}{suffix}/{name}": value
            for suffix, by_set in by_suffix.items()
            for name, value in [*by_set.items(), ("mean", statistics.mean(by_set.values()))]
        }
        values |= self.changes(values)
        self.history.append(values)
        step = strategy.clock.train_iterations
        return [MetricValue(self, name, value, step) for name, value in values.items()]

    def _measured(self, strategy: Strategy) -> dict[str, dict[str, float]]:
        """Return the values of each set."""
        sets = self.panel.at(strategy).items()
        return {name: dict(self.measure(features)) for name, features in sets}

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling, without the strategy."""
        return {**self.__dict__, "_strategy": None}
