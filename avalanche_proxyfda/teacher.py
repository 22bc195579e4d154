"""The feature teacher: a frozen copy of the model that answers for the same batch."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.cache.key import weights_key
from avalanche_proxyfda.cache.teacher_cache import TeacherCache
from avalanche_proxyfda.feature_source import FeatureSource, unwrap
from avalanche_proxyfda.features import Capture, hook

Forward = Callable[[nn.Module, Tensor], Any]
Values = dict[FeatureSource, Any]
"""What the places of a model hold for one batch."""
_log = logging.getLogger(__name__)

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
    "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


class _EndOfForward(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a teacher's forward as soon as its features are known."""


def frozen_copy(module: nn.Module) -> nn.Module:
    """A deep copy without hooks or gradients, in eval mode; the original is untouched.

    A copied hook would be worse than useless: a closure would write the teacher's features
    into the student's place, a bound method would drag its owner into every copy. Hooks of
    ``torch.nn.utils`` (old-style weight and spectral norm) are part of the computation and
    stay.

    Raises:
        RuntimeError: when torch cannot copy the module.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for name in _HOOKS:
            hooks = part.__dict__.get(name)
            if hooks is not None:  # deepcopy then takes this dict in place of the original
                kept = [(k, h) for k, h in hooks.items() if _belongs_to_torch(h)]
                memo[id(hooks)] = OrderedDict(copy.deepcopy(kept))
    try:
        twin = copy.deepcopy(module, memo)
    except (RuntimeError, TypeError) as error:
        raise RuntimeError(
            f"the teacher needs a deep copy of {type(module).__name__}, which failed ({error}). "
            "Modules that keep tensors of the last forward, such as the old "
            "torch.nn.utils.weight_norm, cannot be copied: use "
            "torch.nn.utils.parametrizations instead"
        ) from error
    return twin.requires_grad_(False).eval()


def _belongs_to_torch(hook: object) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils")


@contextmanager
def _kernels_of_training(trained: Iterable[nn.Parameter]) -> Iterator[None]:
    """Make torch take the kernels that it takes in training, so that equal weights give equal bits.

    Without gradient torch would use its inference-only attention, and its matrix products
    choose a routine by whether a weight requires gradient, even where none is recorded.
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


def _without_the_rest(module: nn.Module, parts: Iterable[str], tensors: Mapping[str, Any]) -> None:
    """Take modules and tensors out of ``module`` that are not named."""
    for name in {name for name, _ in module.named_modules()} - set(parts):
        above, _, last = name.rpartition(".")
        try:
            del module.get_submodule(above)._modules[last]
        except (AttributeError, KeyError):  # gone with the one above it
            continue
    for name in set(module.state_dict()) - set(tensors):
        above, _, last = name.rpartition(".")
        owner = module.get_submodule(above)
        for table in (owner._parameters, owner._buffers):
            table.pop(last, None)


def _common_parent(sources: Iterable[FeatureSource]) -> str:
    """Name of the smallest module that makes all the places; empty for the whole model."""
    paths = []
    for source in sources:
        path = source.module.split(".") if source.module else []
        paths.append(path[:-1] if source.of_input else path)
    shared = []
    for parts in zip(*paths, strict=False):  # as far as the shortest goes
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


@dataclass(frozen=True)
class Named:
    """What a cache needs to know of a batch.

    Attributes:
        names: of its samples; None when they are not known.
        sums: check sums of the images that were named, where that was on another device.
        part: how to call a whole model for some rows of the batch, [b] indices.
    """

    names: Sequence[bytes] | None = None
    sums: Tensor | None = None
    part: Callable[[Tensor], Forward] | None = None


class FeatureTeacher:
    """Frozen values of a model as it stood when this was made.

    A copy of the whole model is made, and its forward ends when the last place was seen.
    Where the first batch shows that a module which makes all the places is itself given the
    images (an image tower), only that module is kept.

    Values of the batch asked for last are remembered until :meth:`forget`, so all plugins
    that share a teacher cost one forward a step. While there is a :attr:`cache`, samples that it
    knows cost none.

    Args:
        model: the student; it is copied and not changed.
        sources: the places to read.
        as_in_training: take the kernels that torch takes in training, so that equal weights
            give the bits that the student's forward gives; else those of inference.
    """

    def __init__(
        self, model: nn.Module, sources: Iterable[FeatureSource], as_in_training: bool = True
    ) -> None:
        inner = unwrap(model)
        self.sources = tuple(dict.fromkeys(sources))
        for source in self.sources:
            source.find(inner)
        self.as_in_training = as_in_training
        self.forwards = 0
        self.module = frozen_copy(inner)
        pairs = zip(self.module.parameters(), inner.parameters(), strict=True)
        self._trained = [twin for twin, original in pairs if original.requires_grad]
        self.root = ""
        """Name that :attr:`module` has in the model; empty for the whole of it."""
        self._capture = Capture()
        self._batch: Tensor | None = None
        self._values: Values = {}
        self.cache: TeacherCache | None = None
        """Values by sample, within an experience; see ``avalanche_proxyfda.plugins.caching``."""
        self.cache_planned = False
        """Whether it was decided for this experience if there is one."""
        self.saved_cache: Mapping[str, Any] | None = None
        """A restored state of the cache, until there is one to put it in."""
        self._holders: list[dict[str, Any]] = []
        self._frozen_as: list[tuple[int, int]] = []
        self._key = ""

    @torch.no_grad()
    def values(
        self,
        images: Tensor,
        autocast: torch.dtype | None = None,
        forward: Forward | None = None,
        named: Named | None = None,
    ) -> Values:
        """What every place holds for a batch.

        Args:
            images: the batch that the student sees, [B, ...].
            autocast: the dtype of the student's autocast; None where it had none.
            forward: how to call a whole model, where ``module(images)`` will not do.
            named: the batch's samples, for the cache; None passes it by.

        Raises:
            ValueError: when a place is not run.
        """
        if images is self._batch:
            return self._values
        if self.cache is not None and named is not None and self._is_as_it_was():

            def ask(rows: Tensor | None) -> Values:
                if rows is None:
                    return self.live(images, autocast, forward)
                call = forward if named.part is None else named.part(rows)
                return self.live(images.index_select(0, rows), autocast, call)

            values = self.cache.values(images, named.names, named.sums, autocast, ask)
        else:
            values = self.live(images, autocast, forward)
        self._batch, self._values = images, values
        return values

    def live(self, images: Tensor, autocast: torch.dtype | None, forward: Forward | None) -> Values:
        """:meth:`values` without cache or memory: one forward."""
        lower = torch.autocast(images.device.type, dtype=autocast) if autocast else nullcontext()
        kernels = _kernels_of_training(self._trained) if self.as_in_training else nullcontext()
        with lower, kernels:
            values = self._run(images, forward)
        self.forwards += 1
        return values

    def begin_cache(self, cache: TeacherCache) -> None:
        """Keep values from now on; a restored state of this very teacher is put to use.

        The first forward must have been made, which shows what part of the model is needed.
        """
        parts = self.module.modules()
        self._holders = [held for part in parts for held in (part._parameters, part._buffers)]
        self.cache, self._frozen_as = cache, self._state_of_weights()
        state, self.saved_cache = self.saved_cache, None
        if state is not None and state["key"] != self.key():
            _log.warning("the saved cache is of another teacher, and is not used")
        elif state is not None:
            device = next((v.device for v in self.module.parameters()), torch.device("cpu"))
            cache.load_state_dict(state, self.sources, device)

    def end_cache(self) -> None:
        """Let go of the cache."""
        if self.cache is not None:
            self.cache.close()
        self.cache, self.cache_planned, self._holders = None, False, []

    def key(self) -> str:
        """SHA-256 of weights, buffers, kinds of modules and places."""
        if not self._key or self.cache is None or self._state_of_weights() != self._frozen_as:
            self._key = weights_key(self.module, self.sources)
        return self._key

    def _state_of_weights(self) -> list[tuple[int, int]]:
        """Changes when anything writes to the weights or puts others in their place."""
        values = (value for held in self._holders for value in held.values())
        return [(value.data_ptr(), value._version) for value in values if value is not None]

    def _is_as_it_was(self) -> bool:
        if self._state_of_weights() == self._frozen_as:
            return True
        _log.warning("the teacher's weights were changed: it is asked without its cache")
        self.end_cache()
        self.cache_planned = True
        return False

    def find(self, source: FeatureSource) -> nn.Module:
        """The teacher's own module at one of its places."""
        name = source.module.removeprefix(self.root).removeprefix(".")
        return FeatureSource(name).find(self.module)

    def _run(self, images: Tensor, forward: Forward | None) -> Values:
        """Run the copy as far as the last place."""
        given: list[Any] = []
        self._capture.clear()

        def keep(source: FeatureSource, value: Any) -> None:
            self._capture.keep(source, value)  # the first, as the tap of the student does
            if len(self._capture) == len(self.sources):
                raise _EndOfForward

        parent = _common_parent(self.sources)
        watched = None if self.root or not parent else self.find(FeatureSource(parent))
        handles = [] if watched is None else [hook(watched, True, given.append)]
        handles += [hook(self.find(s), s.of_input, partial(keep, s)) for s in self.sources]
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
        found = self._capture.take()
        for source in self.sources:
            if source not in found:
                raise ValueError(
                    f"{str(source)!r} was not run by the model's forward; name "
                    "a module that it calls"
                )
        if watched is not None and given and given[0] is images:
            self.module, self.root = watched, parent  # the rest of the model is never needed
        return found

    def forget(self) -> None:
        """Drop the remembered batch and its values."""
        self._batch, self._values = None, {}

    def state_dict(self) -> dict[str, Any]:
        """Weights and buffers, of which part of the model they are, and the cache's rows."""
        cache = self.saved_cache
        if self.cache is not None:
            cache = {"key": self.key(), **self.cache.state_dict()}
        return {
            "root": self.root,
            "module": self.module.state_dict(),
            "parts": [name for name, _ in self.module.named_modules()],
            "safe": self._capture.safe,
            "cache": cache,
        }

    @staticmethod
    def restore(
        model: nn.Module, sources: Iterable[FeatureSource], state: Mapping[str, Any]
    ) -> FeatureTeacher:
        """The teacher that ``state`` describes, its structure taken from ``model``.

        Tensors replace the copy's own whatever their shape, and parts that are new since are
        taken out: the head of the model may have grown, and others may have come.

        Raises:
            ValueError: when ``model`` lacks a tensor that ``state`` holds.
        """
        teacher = FeatureTeacher(model, sources)
        if state["root"]:
            teacher.module = FeatureSource(state["root"]).find(teacher.module)
            teacher.root = state["root"]
        teacher._capture.trust(state["safe"])
        _without_the_rest(teacher.module, state["parts"], state["module"])
        own = {**dict(teacher.module.named_parameters()), **dict(teacher.module.named_buffers())}
        for name, value in state["module"].items():
            if name not in own:
                raise ValueError(f"the teacher's state holds {name!r}, which the model lacks")
            own[name].data = value.detach().clone().to(own[name].device)
        teacher.saved_cache = state.get("cache")
        return teacher
