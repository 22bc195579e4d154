"""The matrix of a sweep: a YAML file of streams, methods, seeds and strengths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from avalanche_proxyfda._yaml import read_yaml
from benchmarks.config import complaint, find_recipe, load_recipe, unknown_key
from benchmarks.execution.job import Job
from benchmarks.execution.recipe_jobs import Strengths, method_jobs
from benchmarks.methods.registry import check_method

FOLDER = Path(__file__).parents[1] / "sweeps"
_STRICT = ConfigDict(extra="forbid")
_SAID = {"method": "methods", "seed": "seeds", "strength": "strengths"}
Grid = Annotated[tuple[float, ...], Field(min_length=1)]


@dataclass(frozen=True, config=_STRICT)
class Matrix:
    """The runs of a sweep: every method of every stream, at every strength, with every seed.

    Attributes:
        streams: recipes of streams.
        methods: to compare; None takes those that ``compare`` of a stream's recipe lists.
        seeds: seeds of every setting.
        strengths: the recipes' ``grid``, their ``coarse`` one, the ``recipe``'s own value, or
            numbers: for all methods, or by method (others then take the grid).
        set: keys of the configuration to change, as ``train.epochs: 1``.
        cpus: cores of one run.
        gpus: GPUs of one run; a fraction shares one.
    """

    streams: Annotated[tuple[str, ...], Field(min_length=1)]
    methods: tuple[str, ...] | None = None
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    strengths: Literal["grid", "coarse", "recipe"] | Grid | dict[str, Grid] = "grid"
    set: dict[str, Any] = Field(default_factory=dict)
    cpus: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        by_method = self.strengths if isinstance(self.strengths, dict) else {}
        for method in (*(self.methods or ()), *by_method):
            check_method(method)
        for key in ("method", "seed", "strength"):
            if key in self.set:
                raise ValueError(f"set.{key}: say it by the matrix's {_SAID[key]}")
        for name in ("streams", "methods", "seeds"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={list(values)}: each may be given once")

    def strengths_of(self, method: str) -> Strengths:
        """Strengths of one method."""
        if isinstance(self.strengths, dict):
            return self.strengths.get(method, "grid")
        return self.strengths


_ADAPTER: TypeAdapter[Matrix] = TypeAdapter(Matrix)


def load_matrix(name: str) -> Matrix:
    """The matrix in a file, from here or from ``benchmarks/sweeps``.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: for keys that do not exist, near ones named, and for bad values.
    """
    places = [Path(name), FOLDER / name, FOLDER.parent / name]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        known = ", ".join(p.name for p in sorted(FOLDER.glob("*.yaml")))
        raise FileNotFoundError(f"--matrix {name} is no file; there are {known} in {FOLDER.name}/")
    try:
        content = read_yaml(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold keys and values")
    known_keys = list(Matrix.__dataclass_fields__)
    for key in content:
        if key not in known_keys:
            raise ValueError(f"{path.name}: {unknown_key(key, known_keys)}")
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {complaint(error)}") from None


def jobs_of(matrix: Matrix, out: Path) -> list[Job]:
    """The jobs, seed by seed, so that an unfinished sweep has whole seeds first.

    Raises:
        FileNotFoundError, ValueError: for recipes that are not there, or settings that do not fit.
    """
    jobs = []
    recipes = [load_recipe(find_recipe(name)) for name in matrix.streams]
    for seed in matrix.seeds:
        for recipe in recipes:
            for method in matrix.methods or recipe.compare:
                changes = {**matrix.set, "seed": seed}
                folder, strengths = out / recipe.stream, matrix.strengths_of(method)
                jobs += method_jobs(recipe, folder, method, strengths, changes)
    if not jobs:
        raise ValueError(f"streams={list(matrix.streams)} list no methods: say methods=…")
    if len({job.file for job in jobs}) < len(jobs):
        raise ValueError(f"streams={list(matrix.streams)}: two of them are the same recipe")
    return jobs
