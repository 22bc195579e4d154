"""The matrix of a sweep: a YAML file of streams, methods, variants, seeds and strengths."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._names import nearest
from avalanche_proxyfda._yaml import read_yaml
from benchmarks.config import Recipe, complaint, find_recipe, load_recipe, unknown_key
from benchmarks.config.numbers import check_numbers, check_seed
from benchmarks.config.overrides import dotted
from benchmarks.execution.job import Job, same_run
from benchmarks.execution.recipe_jobs import Strengths, method_jobs
from benchmarks.methods.registry import METHODS, Strength, check_method, with_strength

FOLDER = Path(__file__).parents[1] / "sweeps"
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_SAID = {"method": "methods", "seed": "seeds", "strength": "strengths"}
Grid = Annotated[tuple[Strength, ...], Field(min_length=1)]
Settings = dict[str, Any]
"""Keys of the configuration to change, such as ``{"options.num_neighbors": 8}``."""
Variants = Annotated[tuple[Settings, ...], Field(min_length=1)]


@dataclass(frozen=True, config=_STRICT)
class Matrix:
    """The runs of a sweep: every variant of every method on every stream, strength and seed.

    Attributes:
        streams: recipes of streams.
        methods: to compare; None takes those that ``compare`` of a stream's recipe lists.
        seeds: seeds of every setting.
        orders: orders in which the streams learn their data sets, each a value of
            ``stream.order``; None leaves each recipe's own.
        strengths: the recipes' ``grid``, their ``coarse`` one, the ``recipe``'s own value, or
            numbers and ``auto``: for all methods, or by method (others then take the grid).
        variants: settings to compare, each a mapping of keys to change, such as
            ``options.num_neighbors: 8``; ``{}`` is the recipe as it is. A list is for all
            methods; a mapping has a list by method, and other methods run as the recipe says. A
            variant with ``strength: NUMBER``, or ``auto``, runs at that strength in place of
            ``strengths``.
        tried: number of settings of each method among which an earlier sweep chose on validation
            data; each record has it. None counts the settings of this matrix.
        set: keys of the configuration to change in all runs, as ``train.epochs: 1``; a variant
            wins over it. Here and in a variant, mappings merge key by key.
        cpus: cores of one run.
        gpus: GPUs of one run; a fraction shares one.
    """

    streams: Annotated[tuple[str, ...], Field(min_length=1)]
    methods: tuple[str, ...] | None = None
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    orders: Annotated[tuple[str | tuple[str, ...], ...], Field(min_length=1)] | None = None
    strengths: Literal["grid", "coarse", "recipe"] | Grid | dict[str, Grid] = "grid"
    variants: Variants | dict[str, Variants] = ({},)
    tried: Annotated[int, Field(ge=1)] | None = None
    set: Settings = Field(default_factory=dict)
    cpus: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        for seed in self.seeds:
            check_seed("seeds", seed)
        by_method = [v for v in (self.strengths, self.variants) if isinstance(v, dict)]
        for method in (*(self.methods or ()), *(name for names in by_method for name in names)):
            check_method(method)
        for method in self.strengths if isinstance(self.strengths, dict) else ():
            if METHODS[method].knob is None:
                raise ValueError(f"strengths.{method}: {method} has none; {with_strength()}")
        for name, settings in self._settings():
            for key in dotted(settings, f"{name}: "):
                if key in _SAID and (name, key) != ("variants", "strength"):
                    raise ValueError(f"{name}.{key}: say it by the matrix's {_SAID[key]}")
                if key == "stream.order" and self.orders:
                    raise ValueError(f"{name}.{key}: the matrix lists orders; leave one out")
        for name in ("streams", "methods", "seeds", "orders"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={list(values)}: each may be given once")

    def _settings(self) -> Iterator[tuple[str, Settings]]:
        """Yield ``set`` and every variant, with the name of the key that holds them.

        Raises:
            ValueError: when a variant is there twice.
        """
        yield "set", self.set
        lists = self.variants.values() if isinstance(self.variants, dict) else (self.variants,)
        for variants in lists:
            for number, variant in enumerate(variants):
                if variant in variants[:number]:
                    raise ValueError(f"variants: {variant} may be given once")
                yield "variants", variant

    def strengths_of(self, method: str) -> Strengths:
        """Strengths of one method."""
        if isinstance(self.strengths, dict):
            return self.strengths.get(method, "grid")
        return self.strengths

    def variants_of(self, method: str) -> tuple[Settings, ...]:
        """Variants of one method; the recipe as it is, where the matrix has none of the method."""
        if isinstance(self.variants, dict):
            return self.variants.get(method, ({},))
        return self.variants


def _with_numbers(content: Any) -> Any:
    return check_numbers(content, Matrix)


_ADAPTER: TypeAdapter[Matrix] = TypeAdapter(Annotated[Matrix, BeforeValidator(_with_numbers)])


def load_matrix(name: str) -> Matrix:
    """The matrix in a file, from here or from ``benchmarks/sweeps``.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: for keys that do not exist, near ones named, and for bad values.
    """
    places = [expanded(name), FOLDER / name, FOLDER.parent / name]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        known = [p.name for p in sorted(FOLDER.glob("*.yaml"))]
        near = nearest(Path(name).name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise FileNotFoundError(
            f"--matrix {name} is no file; {hint}there are {', '.join(known)} in {FOLDER.name}/"
        )
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
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
    jobs: list[Job] = []
    recipes = [load_recipe(find_recipe(name)) for name in matrix.streams]
    for seed in matrix.seeds:
        for recipe in recipes:
            for method in matrix.methods or recipe.compare:
                jobs += _variant_jobs(matrix, recipe, out / recipe.stream, method, seed)
    if not jobs:
        raise ValueError(f"streams={list(matrix.streams)} list no methods: say methods=…")
    varied = set(matrix.variants) if isinstance(matrix.variants, dict) else set()
    given = set(matrix.strengths) if isinstance(matrix.strengths, dict) else set()
    for name, methods in (("variants", varied), ("strengths", given)):
        unused = methods - {job.config.method for job in jobs}
        if unused:
            raise ValueError(f"{name}: {sorted(unused)} are not among the methods of the sweep")
    if len({_place(job) for job in jobs}) < len(jobs):
        raise ValueError(f"streams={list(matrix.streams)}: two of them are the same recipe")
    return jobs


def _variant_jobs(
    matrix: Matrix, recipe: Recipe, folder: Path, method: str, seed: int
) -> list[Job]:
    """Jobs of one method and seed: each variant in each order at each strength.

    Raises:
        ValueError: when a setting does not fit, or two variants are the same run.
    """
    jobs: dict[tuple[Path, str], Job] = {}
    strengths, variants = matrix.strengths_of(method), matrix.variants_of(method)
    for variant in ({**variant, **order} for order in _orders(matrix) for variant in variants):
        own = _own_strength(method, variant)
        variant = {key: value for key, value in variant.items() if key != "strength"}
        changes = (matrix.set, variant, {"seed": seed})
        for job in method_jobs(recipe, folder, method, own or strengths, *changes):
            job = replace(job, variant=_words(variant))
            if job.selection.data == "validation":
                tried = matrix.tried or job.selection.settings * len(variants)
                job = replace(job, selection=replace(job.selection, settings=tried))
            if _place(job) in jobs:
                raise ValueError(same_run(jobs[_place(job)], job))
            jobs[_place(job)] = job
    return list(jobs.values())


def _place(job: Job) -> tuple[Path, str]:
    """Return the file of a job, which the device may still change, with its precision."""
    return job.file, job.config.train.precision


def _own_strength(method: str, variant: Settings) -> tuple[Strength, ...]:
    """Return the strength that a variant names; an empty tuple if it names none.

    Raises:
        ValueError: when the method has no strength, or the value is neither a number nor ``auto``.
    """
    if "strength" not in variant:
        return ()
    value = variant["strength"]
    if METHODS[method].knob is None:
        raise ValueError(f"variants.strength={value}: {method} has none; {with_strength()}")
    if value == "auto":
        return ("auto",)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"variants.strength={value!r} must be a number, or auto")
    return (float(value),)


def _orders(matrix: Matrix) -> list[Settings]:
    """Settings of the matrix's orders; without orders, one setting that changes nothing."""
    return [{"stream.order": order} for order in matrix.orders] if matrix.orders else [{}]


def _words(variant: Mapping[str, Any]) -> str:
    """Return a variant as text, such as ``options.num_neighbors=8``."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in variant.items()}
    return ", ".join(f"{key}={text}" for key, text in texts.items())
