"""Writes a tuned model as weights and a description, and reads both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._files import expanded, write_bytes
from avalanche_proxyfda.models import Backbone, TrainedTextHead, parse_weights
from avalanche_proxyfda.models.fitting import fit
from avalanche_proxyfda.models.preprocessing import eval_view
from avalanche_proxyfda.tuned.classifier import TunedClassifier
from avalanche_proxyfda.tuned.description import DESCRIPTION, WEIGHTS, Description, Task, parse
from avalanche_proxyfda.tuned.layers import layers_of
from avalanche_proxyfda.tuned.towers import build_towers

_TOWER, _TEXT = "tower.", "text."


def described(
    model: Any,
    backbone: Backbone,
    classes: Mapping[str, Sequence[str]],
    about: Mapping[str, Any] | None = None,
) -> Description:
    """Return the description of a model; arguments are those of :func:`save_tuned`.

    Raises:
        TypeError, ValueError: see :func:`save_tuned`.
    """
    if not backbone.recipe or not backbone.preprocessing:
        raise ValueError(f"backbone={backbone.name!r} does not say how it is built: load it anew")
    layers = layers_of(model.head)
    if len(layers) != len(classes):
        raise ValueError(
            f"classes names {len(classes)} tasks, and the head has {len(layers)}: "
            "give the class names of each task"
        )
    for name, names in classes.items():
        if not names or len(set(names)) < len(names):
            raise ValueError(f"classes[{name!r}]={list(names)} must be different names")
    state = tuned_state(model)
    tasks = tuple(
        Task(str(name), tuple(map(str, names)), layer)
        for (name, names), layer in zip(classes.items(), layers, strict=True)
    )
    for task in tasks:
        rows = len(state[task.layer.weight])
        if rows > max(2, len(task.classes)):  # a growing head begins with two
            raise ValueError(
                f"classes[{task.name!r}] has {len(task.classes)} names, and the head has {rows} "
                "classes: give a name for each class, in the order of the labels"
            )
    found = Description(dict(backbone.recipe), dict(backbone.preprocessing), tasks, about or {})
    found.text("")  # options may hold values that JSON lacks
    return found


def tuned_state(model: Any) -> dict[str, Tensor]:
    """Return the state of a model, with the class embeddings of a trained text tower as it stands.

    Args:
        model: model with the parts ``tower`` and ``head``; see :func:`save_tuned`.
    """
    state = dict(model.state_dict())
    for name, part in model.head.named_modules():
        if isinstance(part, TrainedTextHead):
            start = f"head.{name}." if name else "head."
            state |= {f"{start}{key}": value for key, value in part.fixed().state_dict().items()}
    return state


def state_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Return a state as the content of a ``.safetensors`` file.

    Tensors that share memory are written once each, as safetensors refuses shared memory.

    Args:
        state: tensors of any shapes by name, on any device.

    Raises:
        TypeError: if an entry is no tensor.

    Example:
        >>> import torch
        >>> from safetensors.torch import load
        >>> from avalanche_proxyfda.tuned import state_bytes
        >>> load(state_bytes(torch.nn.Linear(3, 2).state_dict()))["weight"].shape
        torch.Size([2, 3])
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"state[{name!r}] is {named_kind(value)}, and a file of weights holds tensors "
                "alone: leave the entry out"
            )
    return save(
        {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in state.items()
        }
    )


def tuned_files(description: Description, weights: bytes) -> dict[str, bytes]:
    """Return the contents of both files, by name, in the order in which to write them.

    Args:
        description: description of the model.
        weights: result of :func:`state_bytes`.

    Raises:
        TypeError: if a value of the description is no value of JSON.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.tuned import Description, Layer, Task, state_bytes, tuned_files
        >>> task = Task("pets", ("cat", "dog"), Layer("head.weight", None, None, None, unit=False))
        >>> description = Description(backbone={}, preprocessing={}, tasks=(task,), about={})
        >>> list(tuned_files(description, state_bytes({"head.weight": torch.eye(2)})))
        ['model.safetensors', 'model.json']
    """
    text = description.text(hashlib.sha256(weights).hexdigest())
    return {WEIGHTS: weights, DESCRIPTION: text.encode("utf-8")}


def save_tuned(
    folder: Path | str,
    model: Any,
    backbone: Backbone,
    classes: Mapping[str, Sequence[str]],
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a tuned model to ``model.safetensors`` and ``model.json``, without any pickle.

    Args:
        folder: folder of the two files; it is made if it is missing. ``~`` is the home folder.
        model: model with the parts ``tower``, which is the backbone's, and ``head``:
            ``nn.Linear``, Avalanche's ``IncrementalClassifier``, or a head of
            :mod:`avalanche_proxyfda.models`. A trained text tower ``text`` is written too.
        backbone: result of :func:`~avalanche_proxyfda.models.load_backbone`.
        classes: class names in order of label, by task; one task for a model without tasks.
        about: facts for people, as values of JSON.

    Raises:
        TypeError: if ``backbone`` is no :class:`~avalanche_proxyfda.models.Backbone`, the head is
            another one, or an option of the backbone is no value of JSON.
        ValueError: if the class names do not fit the head.
        OSError: if a file cannot be written.

    Example:
        >>> import tempfile
        >>> from collections import OrderedDict
        >>> from pathlib import Path
        >>> from torch import nn
        >>> from avalanche_proxyfda import save_tuned
        >>> from avalanche_proxyfda.models import load_backbone
        >>> backbone = load_backbone("timm:test_vit", "random")
        >>> head = nn.Linear(backbone.dim, 2)
        >>> model = nn.Sequential(OrderedDict(tower=backbone.tower, head=head))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tuned(folder, model, backbone, {"pets": ["cat", "dog"]}, {"method": "fda"})
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['model.json', 'model.safetensors']
    """
    if not isinstance(backbone, Backbone):
        raise TypeError(
            "backbone must be a Backbone, the result of load_backbone, not "
            f"{type(backbone).__name__}"
        )
    description = described(model, backbone, classes, about)
    for name, content in tuned_files(description, state_bytes(tuned_state(model))).items():
        write_bytes(expanded(folder) / name, content)


def load_tuned(path: Path | str, device: torch.device | str = "cpu") -> TunedClassifier:
    """Load a tuned model as a classifier of image files; nothing is downloaded.

    Args:
        path: folder of ``model.safetensors`` and ``model.json``, or the latter file.
        device: device of the model.

    Returns:
        The classifier, whose ``predict(folder)`` gives names and probabilities, and whose
        ``text`` is the trained text tower.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or they do not belong together.
        ImportError: if timm is needed and not installed.
        ConnectionError: if the backbone's text tower needs a file of Hugging Face.

    Example:
        >>> import tempfile
        >>> from collections import OrderedDict
        >>> from PIL import Image
        >>> from torch import nn
        >>> from avalanche_proxyfda import load_tuned, save_tuned
        >>> from avalanche_proxyfda.models import load_backbone
        >>> backbone = load_backbone("timm:test_vit", "random")
        >>> parts = OrderedDict(tower=backbone.tower, head=nn.Linear(backbone.dim, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tuned(folder, nn.Sequential(parts), backbone, {"pets": ["cat", "dog"]})
        ...     classifier = load_tuned(folder)
        >>> prediction = classifier.predict([Image.new("RGB", (64, 64))])[0]
        >>> list(prediction.probabilities), round(sum(prediction.probabilities.values()), 3)
        (['cat', 'dog'], 1.0)
    """
    place = expanded(path)
    folder = place if place.is_dir() else place.parent
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"path={str(path)!r}: {folder / name} is missing; `python -m benchmarks export` "
                "and save_tuned write it"
            )
    try:
        description, digest = parse((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / DESCRIPTION}: {error}") from error
    content = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"{folder / WEIGHTS} is not the file that {DESCRIPTION} describes (its SHA-256 "
            "differs): copy both files again"
        )
    state = parse_weights(content, folder / WEIGHTS)
    texts = _below(_TEXT, state)
    tower, text = build_towers(description.backbone, bool(texts))
    fit(tower, _below(_TOWER, state), folder / WEIGHTS)
    if text is not None:
        fit(text, texts, folder / WEIGHTS)
    heads = {k: v for k, v in state.items() if not k.startswith((_TOWER, _TEXT))}
    for task in description.tasks:
        for key in task.layer.names:
            if key not in heads:
                raise ValueError(f"{folder / WEIGHTS} has no {key}, which {DESCRIPTION} names")
    view = eval_view(description.preprocessing)
    return TunedClassifier(tower.eval(), heads, description, view, text).to(device)


def _below(start: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
