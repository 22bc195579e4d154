"""Builds the plugin of a method from a run's configuration."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import torch

from avalanche_proxyfda import plugins
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.plugins.base.auto_weight import AutoWeight
from benchmarks.config import Config
from benchmarks.methods.registry import METHODS, Strength, check_method

REFERENCES = ("teacher", "anchor")
_ANY_REFERENCE = ReferenceData(torch.zeros(2, 1, 1, 1), torch.zeros(1, 1), batch=2)
"""Stands for a run's reference data where a plugin is built to check its options alone."""
_FLAGS = (bool, "bool", bool | None, "bool | None")
"""Types of arguments that take true and false."""


def arguments_of(method: str) -> tuple[str, ...]:
    """Return the names of the arguments of a method's plugin, its base classes' included.

    The names decide what a plugin receives: the argument ``seed`` gets the run's seed, and
    ``teacher`` or ``anchor`` gets the choice of the reference.

    Raises:
        ValueError: for an unknown method.
    """
    return tuple(_parameters(method))


@cache
def _parameters(method: str) -> Mapping[str, inspect.Parameter]:
    name = METHODS[check_method(method)].plugin
    if name is None:
        return {}
    parameters = inspect.signature(_class_of(method, name)).parameters
    return {key: p for key, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}


def _class_of(method: str, name: str) -> Any:
    """Return the class of a method's plugin.

    Raises:
        ValueError: if the package does not list the class.
    """
    try:
        return getattr(plugins, name)
    except AttributeError as error:
        raise ValueError(
            f"method {method!r}: its plugin {name} is no public name of "
            "avalanche_proxyfda.plugins: add the line that imports it to "
            "avalanche_proxyfda/plugins/__init__.pyi"
        ) from error


def make_plugins(
    method: str,
    strength: Strength | None = None,
    reference: str = "previous",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Return the plugin of a method in a list, which is empty for a method without a plugin.

    Args:
        method: one of :data:`~benchmarks.methods.registry.METHODS`.
        strength: value of the method's knob; ``"auto"`` for a method with a term on features.
        reference: ``"previous"`` or ``"initial"``: the teacher, or the anchors; ``"averaged"``:
            a teacher that is the student's moving average.
        seed: seed of the random numbers that the method draws.
        options: further arguments of the plugin.

    Raises:
        TypeError, ValueError: for an option that the plugin does not have, with the nearest
            one, or a value that the plugin refuses.
    """
    known, options = METHODS[check_method(method)], options or {}
    if known.plugin is None or known.knob is None:
        if options:
            raise ValueError(f"options={dict(options)}: {method} has no plugin, and so none")
        return []
    names = arguments_of(method)
    if strength == "auto" and "auto_weight" not in names:
        raise ValueError(
            f"strength=auto: {method} has no term on features, whose weight could be found in "
            f"training; give {known.knob} a number, such as {known.strength:g}"
        )
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
        value = options[name]
        if isinstance(value, str) and _parameters(method)[name].annotation in _FLAGS:
            raise TypeError(f"options.{name}={value!r}: give true or false")
    if isinstance(options.get("auto_weight"), Mapping):
        options = {**options, "auto_weight": _auto_weight(options["auto_weight"])}
    return [_class_of(method, known.plugin)(**given, **options)]


def _auto_weight(content: Mapping[str, Any]) -> AutoWeight:
    """Return the options of an automatic weight."""
    known = [field.name for field in fields(AutoWeight)]
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"options.auto_weight.{name} does not exist; "
                + (f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}")
            )
    return AutoWeight(**content)


def needs_reference(method: str) -> bool:
    """Return True if the plugin of a method compares reference images, or has reference texts.

    Raises:
        ValueError: for an unknown method.
    """
    name = METHODS[check_method(method)].plugin
    kind = _class_of(method, name) if name is not None else None
    with_texts = getattr(kind, "reads_texts", False)
    return bool(with_texts or not getattr(kind, "reads_training_batch", True))


def uses_reference(config: Config) -> bool:
    """Return True if the run's plugin compares on reference data.

    A method that needs reference data always does. Any other plugin on features does so with
    ``options.reference_data=true``.

    Raises:
        TypeError: if the option is neither true nor false.
        ValueError: if the plugin needs reference images or texts that the configuration lacks,
            or is no plugin on features.
    """
    name, asked = METHODS[config.method].plugin, config.options.get("reference_data", False)
    if not isinstance(asked, bool):
        raise TypeError(f"options.reference_data={asked!r}: give true or false")
    kind = _class_of(config.method, name) if name is not None else None
    if not (asked or needs_reference(config.method)):
        return False
    if "reference_data" not in arguments_of(config.method):
        raise ValueError(
            f"options.reference_data=true: {config.method} compares no features, so it takes no "
            "reference data; leave the option out"
        )
    part = config.reference_data
    if part.images is None:
        raise ValueError(
            f"{config.method} compares on reference data: set reference_data.images=procedural, "
            "folder:…, npz:… or a set of torchvision"
        )
    if getattr(kind, "reads_texts", False) and part.texts is None:
        raise ValueError(
            f"{config.method} compares with reference texts: set reference_data.texts=random, "
            "classes or a text file"
        )
    return True


def plugins_of(config: Config, reference: ReferenceData | None = None) -> list[Any]:
    """Return the plugins of a run: the method's, and one for each companion.

    The list is empty for a method without a plugin. Every method learns from the batches that
    ``train`` describes. A plugin with the option ``hard_class_batches`` gets the sizes of balanced
    batches; shuffled batches turn the option off. Companions leave the batches as they are, and
    share the method's reference and cache.

    Args:
        config: configuration of the run.
        reference: the reference data of a run that uses it; None stands for any, for a check of
            the configuration.

    Raises:
        TypeError, ValueError: for an option that the plugin does not have, with the nearest
            one, or a value that the plugin refuses.
    """
    names, train, options = arguments_of(config.method), config.train, dict(config.options)
    if "hard_class_batches" in names and train.batches == "shuffled":
        options.setdefault("hard_class_batches", False)
    elif "hard_class_batches" in names:
        options.setdefault("hard_class_batches", True)  # the recipe asks for them
        for name in ("classes_per_batch", "samples_per_class"):
            if name in options:
                raise ValueError(
                    f"options.{name}: every method has the same batches; set train.{name}"
                )
            options[name] = getattr(train, name)
    if "teacher_cache" in names:
        options.setdefault("teacher_cache", config.where.teacher_cache)
        options.setdefault("cache_dir", config.where.cache_dir)
    if uses_reference(config):
        options["reference_data"] = _ANY_REFERENCE if reference is None else reference
    else:
        options.pop("reference_data", None)
    made = make_plugins(config.method, config.strength, config.reference, config.seed, options)
    return made + [_companion(config, name) for name in sorted(config.companions)]


def _companion(config: Config, method: str) -> Any:
    """Return the plugin of a companion.

    Raises:
        ValueError: if it has no term on the features of training batches.
    """
    names = arguments_of(method)
    if "auto_weight" not in names or needs_reference(method):
        fit = [n for n in METHODS if "auto_weight" in arguments_of(n) and not needs_reference(n)]
        raise ValueError(
            f"companions.{method}: {method} has no term on the features of training batches, which "
            f"a companion adds; these have one: {', '.join(fit)}"
        )
    options: dict[str, Any] = {
        "teacher_cache": config.where.teacher_cache,
        "cache_dir": config.where.cache_dir,
    }
    options |= {"hard_class_batches": False} if "hard_class_batches" in names else {}
    strength = config.companions[method]
    return make_plugins(method, strength, config.reference, config.seed, options)[0]


def checked(config: Config, source: str) -> Config:
    """Return ``config`` if the plugin of its method takes its strength and options.

    Args:
        config: configuration of a planned run.
        source: name of the recipe, such as ``"concepts.yaml"``; the message begins with it.

    Raises:
        ValueError: if the plugin refuses them; the message is one line.
    """
    try:
        plugins_of(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from error
    return config
