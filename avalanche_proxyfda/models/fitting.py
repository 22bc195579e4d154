"""Loads the state of a file into a model: every entry has a place, and every place an entry."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

WRAPPER = "model."  # of Lightning's modules


def unwrapped(state: dict[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return ``state`` without the prefix ``model.``, unless the model has names with it.

    Args:
        state: tensors by name.
        names: names of the model's own state.
    """
    if any(name.startswith(WRAPPER) for name in names):
        return state
    return {name.removeprefix(WRAPPER): value for name, value in state.items()}


def misfits(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Return what is wrong between a model and a state, entry by entry; empty if they fit."""
    expected = model.state_dict()
    return [
        *(f"{k} is missing" for k in sorted(set(expected) - set(state))),
        *(f"{k} is not in the model" for k in sorted(set(state) - set(expected))),
        *(
            f"{k} is {tuple(state[k].shape)}, the model's {tuple(expected[k].shape)}"
            for k in sorted(set(expected) & set(state))
            if expected[k].shape != state[k].shape
        ),
    ]


def refusal(wrong: list[str], path: object) -> ValueError:
    """Return the error for weights that do not fit; it names the first three misfits."""
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return ValueError(f"weights={str(path)!r} do not fit: {'; '.join(wrong[:3])}{more}")


def fit(model: nn.Module, state: dict[str, Tensor], path: object) -> None:
    """Load ``state`` strictly.

    Raises:
        ValueError: if names or shapes differ.
    """
    wrong = misfits(model, state)
    if wrong:
        raise refusal(wrong, path)
    model.load_state_dict(state)
