"""A logger whose failures end no run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from avalanche.logging import BaseLogger


class GuardedLogger(BaseLogger):
    """Passes numbers and callbacks on to a logger, and warns once if the logger fails.

    A full disk, a closed file or a lost network costs lines of the log alone. The logger gets
    later numbers too, since a disk may have room again.

    Args:
        name: name of the logger in ``where.loggers``.
        logger: a logger of Avalanche.
        close: closes the logger.
    """

    def __init__(self, name: str, logger: Any, close: Callable[[], Any]) -> None:
        super().__init__()
        self.name, self.logger = name, logger
        self._close, self._warned = close, False

    def log_metrics(self, metric_values: list[Any]) -> None:
        """Log the values of one callback."""
        self._attempt(self.logger.log_metrics, metric_values)

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Log one value at step ``x_plot``."""
        self._attempt(self.logger.log_single_metric, name, value, x_plot)

    def close(self) -> None:
        """Close the logger."""
        self._attempt(self._close)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return the logger's callback of training or evaluation, which may fail."""
        if not name.startswith(("before_", "after_")) or not hasattr(self.logger, name):
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        callback = getattr(self.logger, name)
        return lambda *args, **kwargs: self._attempt(callback, *args, **kwargs)

    def _attempt(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            act(*args, **kwargs)
        except Exception as error:
            if not self._warned:
                warnings.warn(
                    f"where.loggers: {self.name} failed ({type(error).__name__}: {error}), and "
                    "its log lacks lines; the run goes on, and its record has all numbers",
                    stacklevel=3,
                )
            self._warned = True
