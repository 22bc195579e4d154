"""Task vectors: what training changed, merged by magnitude (MagMax), and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._files import expanded, write_bytes

Vector = Mapping[str, Tensor]


@torch.no_grad()
def task_vector(anchor: Vector, tuned: Vector) -> dict[str, Tensor]:
    """Return tuned - anchor, for the floating-point tensors that both have.

    Args:
        anchor: tensors by name before training.
        tuned: tensors by name after training.

    Raises:
        ValueError: when the shapes of a name differ.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights import task_vector
        >>> task_vector({"w": torch.ones(2)}, {"w": torch.tensor([3.0, 0.0])})
        {'w': tensor([ 2., -1.])}
    """
    names = [name for name in anchor if name in tuned and tuned[name].is_floating_point()]
    for name in names:
        if tuned[name].shape != anchor[name].shape:
            raise ValueError(
                f"{name!r} has the shape {tuple(anchor[name].shape)} in anchor and "
                f"{tuple(tuned[name].shape)} in tuned: leave out layers that grow"
            )
    return {name: tuned[name].detach() - anchor[name].to(tuned[name]) for name in names}


@torch.no_grad()
def largest(vectors: Iterable[Vector]) -> dict[str, Tensor]:
    """Return, for each weight, the entry of largest magnitude among the vectors (MagMax, 2024).

    If magnitudes are equal, the last one counts. A name that some vectors lack takes those that
    have it. The function holds two vectors at a time, so ``vectors`` may be read from disk.

    Args:
        vectors: task vectors by name, in the order of the tasks.

    Raises:
        ValueError: when the shapes of a name differ.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights import largest
        >>> largest([{"w": torch.tensor([1.0, -3.0])}, {"w": torch.tensor([-2.0, 1.0])}])
        {'w': tensor([-2., -3.])}
    """
    merged: dict[str, Tensor] = {}
    for vector in vectors:
        for name, value in vector.items():
            before = merged.get(name)
            if before is None:
                merged[name] = value.clone()
                continue
            if before.shape != value.shape:
                raise ValueError(
                    f"task vectors of {name!r} have the shapes {tuple(before.shape)} and "
                    f"{tuple(value.shape)}: merge vectors of one architecture"
                )
            before = before.to(value)
            merged[name] = torch.where(value.abs() >= before.abs(), value, before)
    return merged


@torch.no_grad()
def add_scaled(anchor: Vector, vector: Vector, scale: float) -> dict[str, Tensor]:
    """Return anchor + scale vector, for the names of ``vector``.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights.task_vectors import add_scaled
        >>> add_scaled({"w": torch.ones(2)}, {"w": torch.tensor([2.0, -1.0])}, 0.5)
        {'w': tensor([2.0000, 0.5000])}
    """
    return {name: anchor[name].to(value) + scale * value for name, value in vector.items()}


def vector_path(folder: Path, task: int) -> Path:
    """Return the file of the vector of a task, counted from 0."""
    return folder / f"task_{task:04d}.safetensors"


def vector_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files of task vectors in a folder, in the order of the tasks."""
    # task_10000 comes after task_9999
    return sorted(expanded(folder).glob("task_*.safetensors"), key=lambda p: (len(p.name), p.name))


def write_vector(folder: str | os.PathLike[str], task: int, vector: Vector) -> Path:
    """Write a task vector as a ``.safetensors`` file, whole or not at all.

    Args:
        folder: made if it is missing; ``~`` is the home folder.
        task: number of the task, from 0; :func:`read_vectors` yields vectors in this order.
        vector: tensors of any shapes by name, on any device.

    Returns:
        The path of the file, which replaces an earlier one of the same task.

    Raises:
        TypeError, ValueError: if ``task`` is no int from 0.
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche_proxyfda.weights import read_vectors, task_vector, write_vector
        >>> vector = task_vector({"w": torch.ones(2)}, {"w": torch.tensor([3.0, 0.0])})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_vector(folder, 0, vector).name, list(read_vectors(folder))
        ('task_0000.safetensors', [{'w': tensor([ 2., -1.])}])
    """
    check_count("task", task, 0)
    path = vector_path(expanded(folder), task)
    kept = {name: value.detach().cpu().contiguous().clone() for name, value in vector.items()}
    write_bytes(path, save(kept))
    return path


def read_vectors(folder: str | os.PathLike[str]) -> Iterator[dict[str, Tensor]]:
    """Yield the task vectors of a folder, one at a time, in the order of the tasks.

    Raises:
        ValueError: if the folder has none, or a file is damaged; names the file.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche_proxyfda.weights import largest, read_vectors, write_vector
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for task, values in enumerate(([1.0, -3.0], [-2.0, 1.0])):
        ...         _ = write_vector(folder, task, {"w": torch.tensor(values)})
        ...     largest(read_vectors(folder))
        {'w': tensor([-2., -3.])}
    """
    paths = vector_paths(folder)
    if not paths:
        raise ValueError(
            f"folder={str(folder)!r} holds no task vectors (task_0000.safetensors, …): name the "
            "folder that MagMaxPlugin(folder=...) has written"
        )
    for path in paths:
        try:
            vector = load(path.read_bytes())
        except Exception as error:  # a damaged file can raise any exception
            raise ValueError(f"{path} is no task vector, or a damaged one: {error}") from error
        yield vector
