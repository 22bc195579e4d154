"""The description of a tuned model: everything beside its weights, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from avalanche_proxyfda.tuned.layers import Layer

WEIGHTS = "model.safetensors"
"""Name of the file with the weights of a tuned model."""
DESCRIPTION = "model.json"
"""Name of the file that describes a tuned model."""
FORMAT = 1


@dataclass(frozen=True)
class Task:
    """A label space of the model.

    Attributes:
        name: name of the task.
        classes: class names by label; a growing head may have fewer classes so far.
        layer: head of the task.

    Example:
        >>> from avalanche_proxyfda.tuned import Layer, Task
        >>> head = Layer("head.weight", bias=None, scale=None, active=None, unit=False)
        >>> task = Task("pets", ("cat", "dog"), head)  # label 0 is a cat
        >>> task.classes[1], task.layer.weight
        ('dog', 'head.weight')
    """

    name: str
    classes: tuple[str, ...]
    layer: Layer


@dataclass(frozen=True)
class Description:
    """A tuned model without its weights.

    Attributes:
        backbone: arguments that build the tower, the ``recipe`` of
            :class:`avalanche_proxyfda.models.Backbone`.
        preprocessing: settings of :func:`avalanche_proxyfda.models.preprocessing.eval_view`.
        tasks: label spaces, at least one.
        about: facts for people, such as the method; values of JSON.

    Example:
        >>> import json
        >>> from avalanche_proxyfda.tuned import Description, Layer, Task
        >>> head = Layer("head.weight", bias=None, scale=None, active=None, unit=False)
        >>> tasks = (Task("pets", ("cat", "dog"), head),)
        >>> recipe = {"name": "timm:test_vit", "image_size": None, "options": {}}
        >>> description = Description(recipe, {}, tasks, about={"method": "fda"})
        >>> json.loads(description.text(sha256="0" * 64))["tasks"][0]["classes"]
        ['cat', 'dog']
    """

    backbone: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    tasks: tuple[Task, ...]
    about: Mapping[str, Any]

    def text(self, sha256: str) -> str:
        """Return the JSON text.

        Args:
            sha256: SHA-256 of the weights' file.

        Raises:
            TypeError: if an option of the backbone is no value of JSON.
        """
        content = {"format": FORMAT, "weights": {"file": WEIGHTS, "sha256": sha256}, **asdict(self)}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def parse(text: str) -> tuple[Description, str]:
    """Return the description in a JSON text, and the SHA-256 of its weights' file.

    Raises:
        ValueError: if the text is no description of this version.
    """
    try:
        content: Any = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format={content['format']!r} is not {FORMAT}: update the package")
        tasks = tuple(_task(task) for task in content["tasks"])
        if not tasks:
            raise ValueError("it has no tasks")
        parts = [dict(content[key]) for key in ("backbone", "preprocessing", "about")]
        return Description(parts[0], parts[1], tasks, parts[2]), str(content["weights"]["sha256"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it describes no tuned model: {error}") from error


def _task(content: Mapping[str, Any]) -> Task:
    names = content["classes"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("'classes' must be a list of texts")
    layer = Layer(**content["layer"])
    for key in (layer.weight, layer.bias, layer.scale, layer.active):
        if key is not None and not isinstance(key, str):
            raise ValueError(f"'layer' names the entry {key!r}")
    return Task(str(content["name"]), tuple(names), layer)
