"""Saves a strategy into a folder, and loads the latest state: between experiences, and inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.checkpoint.files import (
    LATEST,
    PREVIOUS,
    CheckpointError,
    read_latest,
    set_aside,
    write_state,
)
from avalanche_proxyfda.checkpoint.finite import check_weights
from avalanche_proxyfda.checkpoint.strategy import (
    check_fit,
    check_steps,
    load_strategy_state,
    strategy_state,
)
from avalanche_proxyfda.distributed.ranks import computed_by_main, is_main


@dataclass(frozen=True)
class Resumed:
    """The point where a training resumes.

    Attributes:
        experiences: number of finished experiences, which is the number of the next one.
        inside: True if the next experience has begun.
        extra: the caller's data that were saved with the strategy.
        source: file and counters, for messages.
        warning: the reason why a later, damaged file was skipped; None without one.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda.checkpoint import load, save
        >>> model = torch.nn.Linear(4, 2)
        >>> strategy = Naive(model=model, optimizer=torch.optim.AdamW(model.parameters()))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save(strategy, folder)
        ...     resumed = load(strategy, folder)
        >>> resumed.experiences, resumed.inside, resumed.source
        (0, False, 'checkpoint.safetensors: 0 experiences')
    """

    experiences: int
    inside: bool
    extra: Any
    source: str
    warning: str | None


def save(strategy: Strategy, folder: Path | str, extra: Any = None, identity: str = "") -> Path:
    """Save a strategy between two experiences, after the evaluation.

    Args:
        strategy: an Avalanche SGD strategy, outside of ``train``.
        folder: folder of the latest and the previous checkpoint.
        extra: plain data and tensors of the caller.
        identity: name of the configuration; :func:`load` refuses another one.

    All ranks must call this function, and rank 0 writes.

    Returns:
        Path of the latest checkpoint.

    Raises:
        UnsavedError: if the state of a plugin or a metric is no plain data.
        ValueError: if a trainable weight is NaN or infinite; the earlier checkpoints stay.
        OSError: if the file cannot be written; the earlier checkpoints stay.
        RuntimeError: on the other ranks, if rank 0 raises.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda.checkpoint import save
        >>> model = torch.nn.Linear(4, 2)
        >>> strategy = Naive(model=model, optimizer=torch.optim.AdamW(model.parameters()))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(strategy, folder, extra={"seed": 7}).name
        'checkpoint.safetensors'
    """
    return computed_by_main(
        lambda: write_checkpoint(strategy, expanded(folder), extra, identity, None)
    )


def load(strategy: Strategy, folder: Path | str, identity: str = "") -> Resumed | None:
    """Load the latest checkpoint into a newly built strategy.

    :meth:`~avalanche_proxyfda.Checkpoints.resume` also resumes inside an experience.

    Args:
        strategy: an Avalanche SGD strategy, built like the saved one.
        folder: folder of the checkpoints.
        identity: the ``identity`` that was given to :func:`save`.

    Returns:
        The point where training resumes; None if the folder has no checkpoint.

    Raises:
        CheckpointError: for a checkpoint of another configuration or version, or if all
            checkpoints of the folder are damaged.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda.checkpoint import load, save
        >>> models = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
        >>> old, new = (Naive(model=m, optimizer=torch.optim.AdamW(m.parameters())) for m in models)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save(old, folder, extra={"seed": 7})
        ...     resumed = load(new, folder)
        >>> resumed.extra, torch.equal(models[0].weight, models[1].weight)
        ({'seed': 7}, True)
    """
    return read_checkpoint(strategy, expanded(folder), identity)[0]


def is_there(folder: Path | str | None) -> bool:
    """Return True if a folder holds a checkpoint, whole or damaged; False for None.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda.checkpoint import is_there, save
        >>> model = torch.nn.Linear(4, 2)
        >>> strategy = Naive(model=model, optimizer=torch.optim.AdamW(model.parameters()))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     is_there(folder), save(strategy, folder).name, is_there(folder)
        (False, 'checkpoint.safetensors', True)
    """
    return folder is not None and any((expanded(folder) / n).exists() for n in (LATEST, PREVIOUS))


def write_checkpoint(
    strategy: Strategy,
    folder: Path,
    extra: Any,
    identity: str,
    inside: Any,
    workers: int | None = None,
    data: Mapping[str, str] | None = None,
    ranks: Sequence[dict[int, Any]] = (),
    trained: Sequence[int] = (),
) -> Path:
    """Write a strategy's checkpoint, and return its path.

    Args:
        strategy: an Avalanche SGD strategy.
        folder: folder of the checkpoints.
        extra: plain data and tensors of the caller.
        identity: name of the configuration.
        inside: the place inside an experience; None between two.
        workers: processes that load.
        data: hash of each data set, by name.
        ranks: state of each rank that differs from rank 0's.
        trained: numbers of the experiences that training has begun, in their order.

    Raises:
        ValueError: if a step since the last check had a term that was NaN or infinite, or if a
            trainable weight is NaN or infinite; nothing is written then.
    """
    check_steps(strategy)
    check_weights(strategy)
    state = strategy_state(strategy, ranks)
    about = {"identity": identity, "inside": inside, "extra": extra, "workers": workers}
    about |= {"data": dict(data or {}), "trained": list(trained)}
    return write_state(folder, {**about, "strategy": state})


def read_checkpoint(
    strategy: Strategy, folder: Path, identity: str, data: Mapping[str, str] | None = None
) -> tuple[Resumed | None, dict[str, Any]]:
    """Load the latest checkpoint; return the point and the whole state.

    Raises:
        CheckpointError: for another identity, other data, or damaged files alone.
    """
    found = computed_by_main(lambda: _latest(folder))
    if found is None:
        return None, {}
    state, path, warning = found
    if state["identity"] != identity:
        raise CheckpointError(
            f"{path} belongs to another configuration or version ({state['identity']!r}, not "
            f"{identity!r}): delete it to start again"
        )
    _check_data(state.get("data") or {}, data or {}, path)
    check_fit(strategy, state["strategy"]["described"], path)
    if warning is not None:
        warnings.warn(f"{warning}; resuming from {path}, which is earlier", stacklevel=3)
        if is_main():
            set_aside(folder)
    load_strategy_state(strategy, state["strategy"])
    _tell_loggers(strategy)
    inside, clock = state["inside"], state["strategy"]["clock"]
    done, where = clock["train_exp_counter"], ""
    if inside is not None:
        where = f", and {clock['train_exp_iterations']} steps of the next"
    source = f"{path.name}: {done} experiences{where}"
    return Resumed(done, inside is not None, state["extra"], source, warning), state


def _tell_loggers(strategy: Strategy) -> None:
    """Call ``training_resumed`` of the loggers that have it, such as ``MetricsCSVLogger``."""
    for logger in strategy.evaluator.loggers:
        resumed = getattr(logger, "training_resumed", None)
        if resumed is not None:
            resumed()


def _check_data(saved: Mapping[str, str], here: Mapping[str, str], path: Path) -> None:
    names = saved.keys() | here.keys() if saved and here else ()
    changed = [name for name in sorted(names) if saved.get(name) != here.get(name)]
    if changed:
        raise CheckpointError(
            f"{path} was saved while training on other data: {', '.join(changed)} changed since "
            f"then. Put the earlier data back to resume, or delete {path.parent} to start again"
        )


def _latest(folder: Path) -> tuple[dict[str, Any], Path, str | None] | None:
    try:
        return read_latest(folder)
    except FileNotFoundError:
        return None
