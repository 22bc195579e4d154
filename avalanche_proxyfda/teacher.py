"""The feature teacher: a frozen copy of the model that answers for the same batch."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.feature_source import FeatureSource, unwrap
from avalanche_proxyfda.features import Pooling, hook, pool_features

Forward = Callable[[nn.Module, Tensor], Any]
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


class FeatureTeacher:
    """Frozen features of a model as it stood when this was made.

    A copy of the whole model is made, and its forward ends at the feature module. Where the
    first batch shows that this module is itself given the images (an image tower), only that
    module is kept.

    Features of the batch asked for last are remembered until :meth:`forget`, so all plugins
    that share a teacher cost one forward a step.

    Args:
        model: the student; it is copied and not changed.
        source: where its features are.
        pooling: see :func:`~avalanche_proxyfda.features.pool_features`.
    """

    def __init__(self, model: nn.Module, source: FeatureSource, pooling: Pooling = "auto") -> None:
        inner = unwrap(model)
        source.find(inner)
        self.source = source
        self.pooling: Pooling = pooling
        self.forwards = 0
        self.module = frozen_copy(inner)
        self._direct = False  # whether self.module is the feature module itself
        self._batch: Tensor | None = None
        self._features: Tensor | None = None

    @torch.no_grad()
    def features(
        self, images: Tensor, autocast: torch.dtype | None = None, forward: Forward | None = None
    ) -> Tensor:
        """Features of a batch, [B, D].

        Args:
            images: the batch that the student sees, [B, ...].
            autocast: the dtype of the student's autocast; None where it had none.
            forward: how to call a whole model, where ``module(images)`` will not do.

        Raises:
            ValueError: when the feature module is not run, or gives no vector a sample.
        """
        if images is self._batch and self._features is not None:
            return self._features
        with torch.autocast(images.device.type, dtype=autocast) if autocast else nullcontext():
            output = self.module(images) if self._direct else self._inside(images, forward)
        self.forwards += 1
        features = pool_features(output, str(self.source), self.pooling)
        self._batch, self._features = images, features
        return features

    def _inside(self, images: Tensor, forward: Forward | None) -> Any:
        """Run the whole copy up to the feature module."""
        found: list[Any] = []
        given: list[Any] = []

        def stop(value: Any) -> None:
            found.append(value)
            raise _EndOfForward

        target = self.source.find(self.module)
        handles = [hook(target, True, given.append), hook(target, self.source.of_input, stop)]
        try:
            forward(self.module, images) if forward else self.module(images)
        except _EndOfForward:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if not found:
            raise ValueError(
                f"feature_module={str(self.source)!r} was not run by the model's forward; name "
                "a module that it calls"
            )
        if not self.source.of_input and given[-1] is images:
            self.module, self._direct = target, True  # the rest of the model is never needed
        return found[-1]

    def forget(self) -> None:
        """Drop the remembered batch and its features."""
        self._batch = self._features = None

    def state_dict(self) -> dict[str, Any]:
        """Weights and buffers, and how they are used."""
        return {"direct": self._direct, "module": self.module.state_dict()}

    @staticmethod
    def restore(
        model: nn.Module, source: FeatureSource, state: Mapping[str, Any], pooling: Pooling = "auto"
    ) -> FeatureTeacher:
        """The teacher that ``state`` describes, its structure taken from ``model``.

        Tensors replace the copy's own whatever their shape: the head of the model may have
        grown since, and the teacher ends before it.

        Raises:
            ValueError: when ``model`` lacks a tensor that ``state`` holds.
        """
        teacher = FeatureTeacher(model, source, pooling)
        if state["direct"]:
            teacher.module, teacher._direct = source.find(teacher.module), True
        own = {**dict(teacher.module.named_parameters()), **dict(teacher.module.named_buffers())}
        for name, value in state["module"].items():
            if name not in own:
                raise ValueError(f"the teacher's state holds {name!r}, which the model lacks")
            own[name].data = value.detach().clone().to(own[name].device)
        return teacher
