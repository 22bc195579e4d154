"""The student's forward on the reference images of a step, shared by plugins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import mixed_seed, seeded
from avalanche_proxyfda._tensors import kept
from avalanche_proxyfda.data.reference import ReferenceBatch, ReferenceData
from avalanche_proxyfda.features.compiled import compiled_modules
from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.features.tap import Capture, hook
from avalanche_proxyfda.models.text_tower import TextTower
from avalanche_proxyfda.plugins.base.reference_texts import padded, tower_for
from avalanche_proxyfda.strategies.precision import autocast_to
from avalanche_proxyfda.teacher.teacher import Values, _EndOfForward


@contextmanager
def borrowed_buffers(buffers: Iterable[tuple[nn.Module, str]]) -> Iterator[None]:
    """Let a forward write to copies of buffers inside the block.

    The buffers themselves are not written to, since a graph may need them for its backward.

    Args:
        buffers: modules with the names of their buffers; modules in eval mode are skipped.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.plugins.base.reference_pass import borrowed_buffers
        >>> from torch import nn
        >>> norm = nn.BatchNorm1d(2)
        >>> with borrowed_buffers([(norm, "running_mean"), (norm, "num_batches_tracked")]):
        ...     _ = norm(torch.ones(3, 2))
        >>> norm.running_mean.tolist(), int(norm.num_batches_tracked)
        ([0.0, 0.0], 0)
    """
    lent: list[tuple[dict[str, Tensor | None], str, Tensor]] = []
    for module, name in buffers:
        buffer = module._buffers.get(name)
        if module.training and buffer is not None:
            lent.append((module._buffers, name, buffer))
            module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for table, name, buffer in lent:
            table[name] = buffer


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Call ``model`` and its modules without compiled code, which does not see new hooks."""
    lent = [(module, module._compiled_call_impl) for module in compiled_modules(model)]
    for module, _ in lent:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in lent:
            module._compiled_call_impl = call


class ReferencePass:
    """One student forward a step on the batch of a :class:`ReferenceData`.

    The forward runs in training mode, with gradient, under the student's autocast. It ends when
    the last place is read, so heads are not run. A model with a head for each task gets task 0.

    Batch norms in training mode normalise the reference batch by its own statistics, and their
    running statistics do not change. Dropout draws from streams of its own, keyed by seed,
    experience and step. The training batch therefore draws the same numbers with and without
    reference data.

    Args:
        data: the reference data.
        model: the student, unwrapped.
        places: places that the plugins read.
    """

    def __init__(
        self, data: ReferenceData, model: nn.Module, places: Iterable[FeatureSource]
    ) -> None:
        self.data = data
        self.places = tuple(dict.fromkeys(places))
        self.forwards = 0
        """Student forwards on reference images so far."""
        self.text_forwards = 0
        """Forwards of the student's text tower on reference texts so far."""
        self.capture = Capture()
        self._model = model
        self._modules = [(place, place.find(model)) for place in self.places]
        self._buffers = [(m, name) for m in model.modules() for name in m._buffers]
        self._key: tuple[int, int] | None = None
        self._batch: ReferenceBatch | None = None
        self._values: Values | None = None
        self._texts: Tensor | None = None
        self._kept_texts: Tensor | None = None  # of a frozen text tower, in this experience
        self._encoder: tuple[TextTower, Tensor] | None = None  # and the ids on its device

    def begin(self, strategy: Strategy, experience: int, step: int) -> ReferenceBatch:
        """Return the batch of a step.

        Raises:
            ValueError: if its images differ from the training images in shape or dtype.
        """
        if self._key != (experience, step) or self._batch is None:
            self.forget()
            self._key = experience, step
            self._batch = self.data.batch_of(experience, step, strategy.device)
            _check_like(self._batch.images, strategy.mb_x)
        return self._batch

    def values(self, autocast: torch.dtype | None) -> Values:
        """Return the values of the places for the batch of the step, with their graph.

        Args:
            autocast: dtype of the student's autocast; None without autocast.

        Raises:
            ValueError: if the forward does not run a place.
        """
        assert self._batch is not None
        if self._values is None:
            with self._aside("images", self._batch.images.device, autocast):
                self._values = self._run(self._batch.images)
            self.forwards += 1
        return self._values

    @contextmanager
    def _aside(
        self, name: str, device: torch.device, autocast: torch.dtype | None
    ) -> Iterator[None]:
        """Run a forward that leaves buffers, random streams and compiled code alone."""
        assert self._key is not None
        seed = mixed_seed("reference " + name, self.data.seed, *self._key)
        lower = autocast_to(autocast, device, self._model) if autocast else nullcontext()
        with seeded(seed, device), borrowed_buffers(self._buffers), eager(self._model), lower:
            yield

    def _run(self, images: Tensor) -> Values:
        self.capture.clear()

        def keep(source: FeatureSource, value: Any) -> None:
            self.capture.keep(source, value)
            if len(self.capture) == len(self.places):
                raise _EndOfForward

        handles = [hook(module, place, partial(keep, place)) for place, module in self._modules]
        try:
            with torch.enable_grad():
                avalanche_forward(self._model, images, 0)
        except _EndOfForward:
            pass
        finally:
            for handle in handles:
                handle.remove()
        values = self.capture.take()
        for place in self.places:
            if place not in values:
                raise ValueError(
                    f"{str(place)!r} was not run by the model's forward of reference images; name "
                    "a module that it calls"
                )
        return values

    # ---- texts ------------------------------------------------------------------------

    def texts(self, autocast: torch.dtype | None) -> Tensor:
        """Return the student's text features of the texts, [M, D].

        Token ids are encoded once a step, with gradient; once an experience while the text tower
        is frozen.
        """
        assert self.data.texts is not None
        assert self._batch is not None
        if self._texts is not None:
            return self._texts
        device = self._batch.images.device
        if self.data.tokens is None:
            if self._kept_texts is None:
                self._kept_texts = self.data.texts.to(device)
            return self._kept_texts
        if self._encoder is None:  # once, since a check and a copy make the host wait
            tower = tower_for(self._model, self.data)
            self._encoder = tower, padded(tower, self.data.tokens)
        tower, ids = self._encoder
        frozen = not any(p.requires_grad for p in tower.parameters())
        self._texts = self._kept_texts if frozen else None
        if self._texts is None:
            with self._aside("texts", device, autocast), torch.set_grad_enabled(not frozen):
                texts = tower(ids)
                self._texts = kept(texts) if frozen else texts
            self.text_forwards += 1
        self._kept_texts = self._texts if frozen else None
        return self._texts

    def forget(self) -> None:
        """Drop the batch of the step and its values."""
        self._key = self._batch = self._values = self._texts = None


def _check_like(images: Tensor, training: Tensor) -> None:
    """Raise ValueError unless both batches have images of one shape and dtype."""
    mine, theirs = (f"{list(x.shape[1:])} {x.dtype}" for x in (images, training))
    if mine != theirs:
        raise ValueError(
            f"the reference images are {mine}, and the training images {theirs}: give the "
            "reference data the transform of the training data's evaluation view"
        )
