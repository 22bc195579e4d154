"""Averages along a training, one number at a time."""

from __future__ import annotations


def mean_of(start: list[float], snapshots: list[list[float]]) -> list[float]:
    """The mean of the start and of all snapshots."""
    whole = [start, *snapshots]
    return [sum(each[k] for each in whole) / len(whole) for k in range(len(start))]


def moving_average(start: list[float], snapshots: list[list[float]], decay: float) -> list[float]:
    """The exponential moving average as a weighted sum: older snapshots weigh less."""
    count, total = len(snapshots), []
    for k, first in enumerate(start):
        value = decay**count * first
        for age, each in enumerate(reversed(snapshots)):
            value += (1 - decay) * decay**age * each[k]
        total.append(value)
    return total
