"""Experiences of an online stream, which Avalanche trains in parts."""

from __future__ import annotations

from avalanche_proxyfda._protocols import Strategy


def whole_experience(strategy: Strategy) -> int:
    """Return the number of the experience; for a part of an online one, of the whole."""
    experience = strategy.experience
    return int(getattr(experience, "origin_experience", experience).current_experience)


def is_first_part(strategy: Strategy) -> bool:
    """Return True if an experience begins: False in the later parts of an online experience."""
    return bool(getattr(strategy.experience, "is_first_subexp", True))


def is_last_part(strategy: Strategy, first: int) -> bool:
    """Return True if an experience ends: False in the earlier parts of an online experience.

    Avalanche 0.6 does not mark the last part as such if all parts have the same size. So the
    parts are also counted.

    Args:
        strategy: in ``after_training_exp``.
        first: the clock's ``train_exp_counter`` in the first part of the experience; -1 where
            the first part was not seen, and the parts cannot be counted.
    """
    experience = strategy.experience
    if getattr(experience, "is_last_subexp", True):
        return True
    parts = getattr(experience, "sub_stream_length", None)
    return (
        parts is not None and first >= 0 and strategy.clock.train_exp_counter - first + 1 >= parts
    )
