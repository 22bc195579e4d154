"""Task vectors: merging against the loops, one task, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda import weights
from avalanche_proxyfda.weights.task_vectors import (
    add_scaled,
    largest,
    read_vectors,
    task_vector,
    vector_path,
    write_vector,
)
from tests.reference.magmax import merged

SHAPES = {"a": (3, 4), "b": (5,), "c": ()}


def drawn(seed: int) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    made = {n: torch.randn(s, generator=source, dtype=torch.float64) for n, s in SHAPES.items()}
    return {**made, "count": torch.tensor(seed)}


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_merging_equals_the_loops(scale: float) -> None:
    start, tuned = drawn(0), [drawn(k) for k in (1, 2, 3)]
    vector = largest(task_vector(start, each) for each in tuned)
    assert vector.keys() == SHAPES.keys()  # a count of batches is no weight
    for name, value in add_scaled(start, vector, scale).items():
        expected = merged(
            start[name].flatten().tolist(), [t[name].flatten().tolist() for t in tuned], scale
        )
        assert value.shape == SHAPES[name] and value.flatten().tolist() == pytest.approx(expected)


def test_one_task_is_its_vector_scaled() -> None:
    start, vector = drawn(0), task_vector(drawn(0), drawn(1))
    alone = largest([vector])
    assert all(torch.equal(alone[n], vector[n]) and alone[n] is not vector[n] for n in SHAPES)
    for name, value in add_scaled(start, alone, 0.5).items():
        torch.testing.assert_close(value - start[name], 0.5 * vector[name])


def test_the_order_counts_for_equal_magnitudes_alone() -> None:
    one, two = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([-1.0, 3.0])}
    assert largest([one, two])["w"].tolist() == [-1, 3]
    assert largest([two, one])["w"].tolist() == [1, 3]
    assert largest([{}, one, {"v": torch.ones(1)}]).keys() == {"w", "v"}
    assert largest([]) == {}


def test_files_give_the_vectors_again_in_order(tmp_path: Path) -> None:
    vectors = [task_vector(drawn(0), drawn(k)) for k in range(1, 12)]
    for task, vector in enumerate(vectors):
        write_vector(tmp_path / "new", task, vector)
    again = list(read_vectors(tmp_path / "new"))
    assert len(again) == 11
    for one, other in zip(again, vectors, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
    assert len(list((tmp_path / "new").iterdir())) == 11  # no temporary file is left


def test_bad_vectors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'w' have the shapes \(2,\) and \(3,\)"):
        largest([{"w": torch.ones(2)}, {"w": torch.ones(3)}])
    with pytest.raises(ValueError, match="holds no task vectors"):
        list(read_vectors(tmp_path))
    vector_path(tmp_path, 0).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"task_0000\.safetensors is no task vector"):
        list(read_vectors(tmp_path))


def test_a_task_vector_needs_equal_shapes() -> None:
    start, tuned = {"a": torch.ones(1), "n": torch.tensor(1)}, {"a": torch.ones(3)}
    with pytest.raises(ValueError, match=r"'a' has the shape \(1,\) in anchor and \(3,\) in tuned"):
        task_vector(start, tuned)
    assert task_vector(start, {"a": torch.zeros(1), "n": torch.ones(2).int()}) == {"a": -1}


def test_a_public_writer_keeps_the_order_of_any_number_of_tasks(tmp_path: Path) -> None:
    for task in (10_000, 9_999, 2):
        path = weights.write_vector(tmp_path, task, {"a": torch.tensor([float(task)])})
        assert path == vector_path(tmp_path, task)
    assert [float(v["a"]) for v in weights.read_vectors(tmp_path)] == [2, 9_999, 10_000]
    with pytest.raises(ValueError, match="task=-1 must be at least 0"):
        weights.write_vector(tmp_path, -1, {})
