"""The plugin of each method, made of a run's configuration."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from avalanche_proxyfda import plugins
from benchmarks.config import Config
from benchmarks.methods.registry import METHODS, check_method

REFERENCES = ("teacher", "anchor")


@cache
def arguments_of(method: str) -> tuple[str, ...]:
    """Names of the arguments of a method's plugin, its base classes' included.

    What a method takes is asked of this signature: an argument called ``seed`` gets the run's
    seed, ``teacher`` or ``anchor`` the choice of the reference, and so on.

    Raises:
        ValueError: for an unknown method.
    """
    name = METHODS[check_method(method)].plugin
    if name is None:
        return ()
    names: dict[str, None] = {}
    for kind in getattr(plugins, name).__mro__:
        if "__init__" in vars(kind) and kind.__module__.startswith("avalanche_proxyfda."):
            for argument, parameter in inspect.signature(kind).parameters.items():
                if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    names[argument] = None
    return tuple(names)


def make_plugins(
    method: str,
    strength: float | None = None,
    reference: str = "previous",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Any]:
    """The plugin of a method in a list, which is empty for plain fine-tuning.

    Args:
        method: one of :data:`~benchmarks.methods.registry.METHODS`.
        strength: value of the method's knob.
        reference: ``"previous"`` or ``"initial"``: the teacher, or the anchors.
        seed: of the method's own random numbers, where it draws any.
        options: further arguments of the plugin.

    Raises:
        TypeError, ValueError: for an option that the plugin does not have, near ones named, or
            a value that it refuses.
    """
    known, options = METHODS[check_method(method)], options or {}
    if known.plugin is None or known.knob is None:
        if options:
            raise ValueError(f"options={dict(options)}: plain fine-tuning has none")
        return []
    names = arguments_of(method)
    given: dict[str, Any] = {known.knob: strength}
    given |= {name: reference for name in REFERENCES if name in names}
    given |= {"seed": seed} if "seed" in names else {}
    free = [name for name in names if name not in given]
    for name in options:
        if name not in free:
            near = difflib.get_close_matches(name, free, n=1)
            raise ValueError(
                f"options.{name} is no argument of {known.plugin}; "
                + (f"did you mean {near[0]!r}?" if near else f"it has {', '.join(free)}")
            )
    return [getattr(plugins, known.plugin)(**given, **options)]


def plugins_of(config: Config) -> list[Any]:
    """The plugin of a run in a list, which is empty for plain fine-tuning.

    Every method learns from the batches that ``train`` describes. A method that can bring
    batches of its own adopts the sizes of balanced batches, and brings none when they are
    shuffled.

    Args:
        config: the run.

    Raises:
        TypeError, ValueError: for an option that the plugin does not have, near ones named, or
            a value that it refuses.
    """
    takes, train, options = arguments_of(config.method), config.train, dict(config.options)
    if "hard_class_batches" in takes and train.batches == "shuffled":
        options.setdefault("hard_class_batches", False)
    elif "hard_class_batches" in takes:
        for name in ("classes_per_batch", "samples_per_class"):
            if name in options:
                raise ValueError(
                    f"options.{name}: every method has the same batches; set train.{name}"
                )
            options[name] = getattr(train, name)
    if "teacher_cache" in takes:
        options.setdefault("teacher_cache", config.where.teacher_cache)
        options.setdefault("cache_dir", config.where.cache_dir)
    return make_plugins(config.method, config.strength, config.reference, config.seed, options)


def checked(config: Config, source: str) -> Config:
    """Return ``config`` when the plugin of its method takes its strength and options.

    Args:
        config: a run that is planned.
        source: begins the message: the name of the recipe, as ``"concepts.yaml"``.

    Raises:
        ValueError: in one line, when the plugin does not take them.
    """
    try:
        plugins_of(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from error
    return config
