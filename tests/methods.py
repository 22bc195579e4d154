"""The toy plugin and the toy loss of each method, for tests that run over all methods.

The registry lists the methods and names their plugins. Toy values are given by the name of an
argument, so a new method needs no entry here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from avalanche_proxyfda import plugins
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.embedding import EmbeddingPlugin
from avalanche_proxyfda.plugins.base.graph import GraphPlugin
from avalanche_proxyfda.plugins.base.learned import LearnedLossPlugin
from avalanche_proxyfda.plugins.base.reference_data import ReferenceDataPlugin
from benchmarks.methods.plugins import REFERENCES, arguments_of
from benchmarks.methods.registry import METHODS

TAPS = ("backbone.1", "backbone.3", "backbone")
"""Two layers and the embedding of the toy models."""
OPTIONS: Mapping[str, Any] = {
    "num_neighbors": 4,
    "taps": TAPS,
    "l2": 0.1,
    "any_optimizer": True,
}
"""Toy values by argument."""
KNOWN_CLASSES = (0, 1)
"""Value of ``known_classes`` where the reference is the model as given."""

# ---- exceptions by name ---------------------------------------------------------------------

NOT_IN_REGISTRY = {"lp-ft": "LPFTPlugin"}
"""Plugins of methods that the registry takes for plain fine-tuning."""
KNOBS = {"lp-ft": "l2"}
"""Strengths of methods without a knob in the registry."""
STRENGTHS = {"ldifs": 0.5, "rift": 0.1, "zscl": 1e-3, "lipsum-ft": 1e-3, "snd": 0.1, "dive": 0.1}
"""Strengths of methods whose default is too large for toys."""
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "fda-shuffled": ("fda", {"hard_class_batches": False}),
    "fda-learns": ("fda", {"learnable": True}),
    "fda-bank": ("fda", {"classes_per_batch": 2}),
    "fda-online": ("fda", {"classes_per_batch": 2, "mining": "online"}),
    "fda-fitted": ("fda", {"start": "fitted", "negative_weight": "clamped"}),
    "fda-chunks": ("fda", {"negative_weight": "one-minus", "chunk_size": 5}),
    "proxy-fda-chunks": ("proxy-fda", {"chunk_size": 7}),
    "proxy-fda-detached": ("proxy-fda", {"detach_proxies": True}),
    "rift-identity": ("rift", {"mean_weight": 0.5}),
    "rift-spectrum": ("rift", {"q": "spectrum"}),
    "rift-procrustes": ("rift", {"q": "procrustes"}),
    "rift-learned": ("rift", {"q": "learned", "mean_weight": 0.5}),
    "rift-uncentered": ("rift", {"centered": False}),
}
"""Other settings of a method, by a name of their own: the method, and its options."""

# ---- methods --------------------------------------------------------------------------------

PLUGINS: Mapping[str, type[Any]] = {
    method: getattr(plugins, name)
    for method, known in METHODS.items()
    if (name := known.plugin or NOT_IN_REGISTRY.get(method)) is not None
}
"""Classes of the plugins by method, in the registry's order."""


def method_of(name: str) -> str:
    """Return the method of a variant; a method is its own."""
    return VARIANTS[name][0] if name in VARIANTS else name


def arguments(name: str) -> tuple[str, ...]:
    """Return the names of the arguments of a method's plugin, its base classes' included."""
    method = method_of(name)
    return arguments_of(method) or tuple(inspect.signature(PLUGINS[method]).parameters)


def _methods_on(base: type) -> tuple[str, ...]:
    return tuple(method for method, kind in PLUGINS.items() if issubclass(kind, base))


WITH_CACHE = tuple(method for method in PLUGINS if "teacher_cache" in arguments(method))
"""Methods that compare the student with a teacher on each batch."""
ON_GRAPH = _methods_on(GraphPlugin)
"""Methods that compare neighbour graphs, with parameters and batches of their own."""
ON_WEIGHTS = _methods_on(AnchorPlugin)
"""Methods that act on weights."""
ON_REFERENCE = tuple(
    method
    for method, kind in PLUGINS.items()
    if issubclass(kind, ReferenceDataPlugin) and (kind.reads_texts or not kind.reads_training_batch)
)
"""Methods that need reference data."""
ON_EMBEDDING = tuple(m for m in _methods_on(EmbeddingPlugin) if m not in ON_REFERENCE)
"""Methods that compare the embeddings [B, D] of a training batch, and nothing else."""


# ---- toys -----------------------------------------------------------------------------------


def accepted(name: str, /, **options: Any) -> dict[str, Any]:
    """Return those of ``options`` that the plugin of a method or a variant has."""
    return {key: value for key, value in options.items() if key in arguments(name)}


def strength_argument(name: str) -> str:
    """Return the name of the argument that gives a method's strength."""
    method = method_of(name)
    return METHODS[method].knob or KNOBS[method]


def reference_argument(name: str) -> str:
    """Return the name of the argument that chooses the reference: the teacher or the anchor."""
    (argument,) = accepted(name, **dict.fromkeys(REFERENCES))
    return argument


def toy_reference_data() -> ReferenceData:
    """Return reference images of the toys' size, and texts of the width of their features."""
    source = torch.Generator().manual_seed(5)
    images, texts = torch.randn(12, 1, 4, 4, generator=source), torch.randn(5, 8, generator=source)
    return ReferenceData(list(images), texts, batch=6)


def needed(method: str) -> dict[str, Any]:
    """Return the options without which the plugin of a method is refused."""
    return {"reference_data": toy_reference_data()} if method in ON_REFERENCE else {}


def toy_plugin(name: str, /, **options: Any) -> Any:
    """Return a new plugin that suits the models of ``tests.plugins.toys``.

    Args:
        name: a key of :data:`PLUGINS` or :data:`VARIANTS`.
        options: arguments of the plugin, which replace the toy values. ``strength`` and
            ``reference`` stand for the arguments that a method gives other names.
    """
    method = method_of(name)
    aliases = {"strength": strength_argument(name), "reference": reference_argument(name)}
    options = {aliases.get(key, key): value for key, value in options.items()}
    values = {**accepted(name, **OPTIONS), aliases["reference"]: "previous"}
    values |= needed(method)
    if method == "magmax" and options.get("anchor", "previous") == "previous":
        values["buffers"] = "tuned"  # the toy models have batch norms
    if options.get("teacher") == "initial":
        values |= accepted(name, known_classes=KNOWN_CLASSES)
    if method in STRENGTHS:
        values[aliases["strength"]] = STRENGTHS[method]
    if name in VARIANTS:
        values |= VARIANTS[name][1]
    return PLUGINS[method](**(values | options))


def toy_plugins(methods: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return a new plugin for each of ``methods``, with the options that it maps to."""
    return [toy_plugin(method, **options) for method, options in methods.items()]


WITH_LOSS = tuple(method for method in PLUGINS if hasattr(toy_plugin(method), "loss"))
"""Methods with a loss of their own."""


def toy_loss(name: str, dim: int, batch: int = 2, /, **options: Any) -> nn.Module:
    """Return the loss of a new toy plugin, for features [``batch``, ``dim``].

    Args:
        name: one of :data:`WITH_LOSS`, or a variant of one.
        dim: width of the features; only a loss with parameters of that width depends on it.
        batch: samples of a batch, from which a loss may take its sizes.
        options: see :func:`toy_plugin`.
    """
    plugin = toy_plugin(name, **options)
    learns = isinstance(plugin, LearnedLossPlugin)
    loss: nn.Module = plugin.build_loss(dim, batch) if learns else plugin.loss
    return loss
