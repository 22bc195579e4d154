"""The feature teacher: a frozen copy of the model that reads the same batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda._tensors import kept
from avalanche_proxyfda.features.source import WHOLE_INPUT, FeatureSource, unwrap
from avalanche_proxyfda.features.tap import Capture, hook
from avalanche_proxyfda.models.text_tower import TextTower, find_text_tower
from avalanche_proxyfda.strategies.precision import autocast_to
from avalanche_proxyfda.teacher.snapshot import _remove_others, frozen_copy

Forward = Callable[[nn.Module, Tensor], Any]
Values = dict[FeatureSource, Any]
"""The values of a model's places for one batch."""


def kept_values(values: Values) -> Values:
    """Return the values with copies of the tensors, see :func:`~avalanche_proxyfda._tensors.kept`.

    Places that give a tuple or another object are returned as they are.
    """
    return {place: kept(v) if isinstance(v, Tensor) else v for place, v in values.items()}


class _EndOfForward(Exception):  # noqa: N818 (no error)
    """Ends a teacher's forward when all its features are read."""


@contextmanager
def _kernels_of_training(trained: Iterable[nn.Parameter]) -> Iterator[None]:
    """Make torch choose the kernels of training, so that equal weights give equal bits.

    Without gradients torch takes its inference-only attention. Matrix products choose a
    routine by ``requires_grad`` of the weight, even if no gradient is recorded.
    """
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(False)
        torch.backends.mha.set_fastpath_enabled(was)


def _common_parent(sources: Iterable[FeatureSource]) -> str:
    """Return the name of the smallest module that computes all places; "" for the whole model."""
    paths = []
    for source in sources:
        path = source.module.split(".") if source.module else []
        paths.append(path[:-1] if source.of_input else path)
    shared = []
    for parts in zip(*paths, strict=False):  # up to the end of the shortest path
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


class FeatureTeacher:
    """The values of a model's places, with the weights that the model has now.

    The teacher copies the whole model. A forward of the teacher ends when the last place is
    read. If the first batch shows that one module computes all places from the images (an
    image tower), the teacher drops the rest of the model.

    The teacher remembers the values of the last batch until :meth:`forget`, so all plugins
    that share a teacher need one teacher forward a step.

    Args:
        model: the student, which is copied and not changed.
        sources: the places to read.
        as_in_training: True takes torch's kernels of training, so that equal weights give the
            bits of the student's forward; False takes the kernels of inference.
        needs_text: True keeps the copy of a trained text tower as :attr:`text`, also when the
            rest of the model is dropped.

    Raises:
        ValueError: if the model lacks a place, or has several text towers.
        RuntimeError: if torch cannot copy the model.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from avalanche_proxyfda import FeatureSource, FeatureTeacher
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> teacher = FeatureTeacher(model, [FeatureSource("0")])
        >>> images, place = torch.ones(5, 4), FeatureSource("0")
        >>> before = model[0](images).detach()
        >>> _ = nn.init.zeros_(model[0].weight)  # the student moves, the teacher stays
        >>> torch.allclose(teacher.values(images)[place], before), teacher.forwards
        (True, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        sources: Iterable[FeatureSource],
        as_in_training: bool = True,
        needs_text: bool = False,
    ) -> None:
        inner = unwrap(model)
        self.sources = tuple(dict.fromkeys(sources))
        for source in self.sources:
            source.find(inner)
        self.as_in_training, self.needs_text = as_in_training, needs_text
        self.forwards = 0
        """Forwards so far."""
        self.module = frozen_copy(inner)
        """The copy of the model, or of the part that computes all places."""
        for part in self.module.modules():
            if getattr(part, "trains_on_other_texts", False):
                part.train()  # a head: the student's logits come from its texts of training
        self.text: TextTower | None = find_text_tower(self.module) if needs_text else None
        """The copy of the model's text tower; None if it was not asked for, or there is none."""
        pairs = zip(self.module.parameters(), inner.parameters(), strict=True)
        self._trained = [twin for twin, original in pairs if original.requires_grad]
        self.root = ""
        """Name of :attr:`module` in the model; "" for the whole model."""
        self._capture = Capture()
        self._batch: Tensor | None = None
        self._values: Values = {}

    def values(
        self,
        images: Tensor,
        autocast: torch.dtype | None = None,
        forward: Forward | None = None,
    ) -> Values:
        """Return the values of every place for a batch.

        Args:
            images: the batch of the student, [B, ...].
            autocast: dtype of the student's autocast; None without autocast.
            forward: calls a whole model, if ``module(images)`` does not.

        Raises:
            ValueError: if the forward does not run a place.
        """
        if images is not self._batch:
            self._values = self.live(images, autocast, forward)
            self._batch = images
        return self._values

    @torch.no_grad()
    def live(self, images: Tensor, autocast: torch.dtype | None, forward: Forward | None) -> Values:
        """Return :meth:`values` of one forward, and remember nothing."""
        lower = autocast_to(autocast, images.device, self.module) if autocast else nullcontext()
        kernels = _kernels_of_training(self._trained) if self.as_in_training else nullcontext()
        with lower, kernels:
            values = self._run(images, forward)
        self.forwards += 1
        return values

    @torch.no_grad()
    def text_embeddings(self, tokens: Tensor, autocast: torch.dtype | None = None) -> Tensor:
        """Return the text embeddings [M, D] of :attr:`text`, not normalised.

        Args:
            tokens: ids of M texts, [M, L].
            autocast: dtype of the student's autocast; None without autocast.

        Raises:
            ValueError: if the teacher keeps no text tower.
        """
        if self.text is None:
            raise ValueError(
                "the teacher keeps no text tower: return True in the plugin's needs_text(), and "
                "train a model with a text tower (avalanche_proxyfda.models.TwoTowers)"
            )
        lower = autocast_to(autocast, tokens.device) if autocast else nullcontext()
        kernels = _kernels_of_training(self._trained) if self.as_in_training else nullcontext()
        with lower, kernels:
            embeddings: Tensor = self.text(tokens)
        return embeddings

    def find(self, source: FeatureSource) -> nn.Module:
        """Return the teacher's module at one of its places."""
        name = source.module.removeprefix(self.root).removeprefix(".")
        return self.module.get_submodule(name)

    def _run(self, images: Tensor, forward: Forward | None) -> Values:
        """Run the copy up to the last place."""
        inputs: list[Any] = []
        self._capture.clear()

        def keep(source: FeatureSource, value: Any) -> None:
            self._capture.keep(source, value)  # the first value, like the student's tap
            if len(self._capture) == len(self.sources):
                raise _EndOfForward

        parent = _common_parent(self.sources)
        watched = None if self.root or not parent else self.find(FeatureSource(parent))
        handles = [] if watched is None else [hook(watched, WHOLE_INPUT, inputs.append)]
        handles += [hook(self.find(s), s, partial(keep, s)) for s in self.sources]
        try:
            if forward is None or self.root:
                self.module(images)
            else:
                forward(self.module, images)
        except _EndOfForward:
            pass
        finally:
            for handle in handles:
                handle.remove()
        values = self._capture.take()
        for source in self.sources:
            if source not in values:
                raise ValueError(
                    f"{str(source)!r} was not run by the model's forward; name "
                    "a module that it calls"
                )
        if watched is not None and inputs and inputs[0] is images:
            self._narrow(watched, parent)
        return values

    def _narrow(self, module: nn.Module, root: str) -> None:
        """Keep ``module``, which computes all places, and free the rest of the model."""
        self.module, self.root = module, root
        parts = [part for part in (module, self.text) if part is not None]
        kept = {id(parameter) for part in parts for parameter in part.parameters()}
        self._trained = [parameter for parameter in self._trained if id(parameter) in kept]

    def forget(self) -> None:
        """Drop the remembered batch and its values."""
        self._batch, self._values = None, {}

    def state_dict(self) -> dict[str, Any]:
        """Return weights and buffers, and the part of the model that they belong to.

        The text tower stands under ``"text"`` if it is no part of the module.
        """
        apart = {} if self.text is None or not self.root else {"text": self.text.state_dict()}
        return {
            **apart,
            "root": self.root,
            "module": self.module.state_dict(),
            "parts": [name for name, _ in self.module.named_modules()],
            "safe": self._capture.safe,
        }

    @staticmethod
    def restore(
        model: nn.Module,
        sources: Iterable[FeatureSource],
        state: Mapping[str, Any],
        needs_text: bool = False,
    ) -> FeatureTeacher:
        """Return the teacher of a saved state, with the structure of ``model``.

        The saved tensors replace those of the copy, also if the shapes differ: the head of the
        model may have grown. Parts of the model that the state lacks are removed.

        Args:
            model: a model with the structure of the teacher's, and maybe more.
            sources: the places to read.
            state: the result of :meth:`state_dict`.
            needs_text: see :class:`FeatureTeacher`.

        Raises:
            ValueError: if ``model`` lacks a tensor of ``state``.
        """
        teacher = FeatureTeacher(model, sources, needs_text=needs_text)
        module = teacher.module
        if state["root"]:
            module = FeatureSource(state["root"]).find(module)
        teacher._capture.trust(state["safe"])
        _remove_others(module, state["parts"], state["module"])
        teacher._narrow(module, state["root"])
        tensors: dict[str, Tensor] = {  # with every name of a tensor that has several
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }
        for name, value in state["module"].items():
            if name not in tensors:
                raise ValueError(
                    f"the teacher's state holds {name!r}, which the model lacks: build the model "
                    "as it was when the state was saved"
                )
            tensors[name].data = value.detach().to(tensors[name].device, copy=True)
        if teacher.text is not None and "text" in state:
            teacher.text.load_state_dict(state["text"])
        return teacher
