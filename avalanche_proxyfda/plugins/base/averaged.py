"""The base of methods with a teacher, which may be the student's moving average."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.lifecycle import (
    ReferenceChoice,
    ReferencePlugin,
    TeacherChoice,
)
from avalanche_proxyfda.plugins.base.merged import tensors_of
from avalanche_proxyfda.teacher.cache import CacheChoice
from avalanche_proxyfda.teacher.cached import CachedTeacher
from avalanche_proxyfda.weights.average import check_decay, move_towards

DECAY = 0.999
"""Decay of an averaged teacher, where none is given."""


class TeacherPlugin(ReferencePlugin[CachedTeacher]):
    """Moves a teacher that is the student's average after each optimizer step.

    The averaged teacher begins each experience at the model as it stands. Its weights and
    floating-point buffers follow the student's, ``teacher <- d teacher + (1 - d) student``, and
    integer buffers are copied. The first plugin that holds a shared teacher moves it.

    Args:
        choice: see :class:`ReferencePlugin`, or ``"averaged"``.
        teacher_decay: d of the averaged teacher, in [0, 1); None takes 0.999.
        feature_module, name: see :class:`ReferencePlugin`.

    Raises:
        TypeError, ValueError: for a decay out of range, or of a teacher that is not averaged.
    """

    choices: ClassVar[tuple[str, ...]] = (*get_args(ReferenceChoice), "averaged")

    def __init__(
        self,
        *,
        choice: TeacherChoice,
        teacher_decay: float | None = None,
        feature_module: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(choice=choice, feature_module=feature_module, name=name)
        if teacher_decay is not None and choice != "averaged":
            raise ValueError(
                f"teacher_decay={teacher_decay} belongs to an averaged teacher, and "
                f"teacher={choice!r} stays as it is: leave teacher_decay out, or take "
                "teacher='averaged'"
            )
        self.teacher_decay = (
            DECAY if teacher_decay is None else check_decay("teacher_decay", teacher_decay)
        )
        self.follows_weights = choice == "averaged"
        self._followed: tuple[str, list[tuple[Tensor, Tensor]]] | None = None

    def cache_choice(self, asked: CacheChoice) -> CacheChoice:
        """Return the choice of the cache; an averaged teacher has none, since it changes.

        Raises:
            ValueError: for a cache that the user asks for.
        """
        if self.choice != "averaged":
            return asked
        if asked not in ("auto", "off"):
            raise ValueError(
                f"teacher_cache={asked!r}: an averaged teacher answers anew after each step; take "
                "teacher_cache='off', or teacher='previous'"
            )
        return "off"

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse half-precision weights, and other decays of a shared teacher; take the teacher."""
        half = {p.dtype for p in unwrap(strategy.model).parameters() if p.requires_grad}
        half &= {torch.float16, torch.bfloat16}
        if self.choice == "averaged" and half:
            raise ValueError(
                f"teacher='averaged' of weights in {half.pop()}: an average that moves by "
                f"1 - teacher_decay={1 - self.teacher_decay:.2g} of a difference is rounded away "
                "there; keep the weights in float32 and train with precision='bf16'"
            )
        for plugin in self.plugins_before(strategy):
            if not isinstance(plugin, TeacherPlugin) or plugin.choice != self.choice:
                continue
            if plugin.teacher_decay != self.teacher_decay:
                raise ValueError(
                    f"{plugin.name} and {self.name} share an averaged teacher, but have the decays "
                    f"{plugin.teacher_decay} and {self.teacher_decay}: give both the same "
                    "teacher_decay"
                )
        super().before_training_exp(strategy, **kwargs)

    @torch.no_grad()
    def after_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Move an averaged teacher towards the student."""
        teacher = self.reference
        if self.choice != "averaged" or teacher is None:
            return
        if any(plugin.reference is teacher for plugin in self.plugins_before(strategy)):
            return
        if self._followed is None or self._followed[0] != teacher.root:
            self._followed = teacher.root, _pairs(teacher, strategy)
        moving = [pair for pair in self._followed[1] if pair[0].is_floating_point()]
        copied = [pair for pair in self._followed[1] if not pair[0].is_floating_point()]
        average, student = [known for known, _ in moving], [own.detach() for _, own in moving]
        move_towards(average, student, 1 - self.teacher_decay)
        for known, own in copied:
            known.copy_(own)

    def followed_statistics(self) -> list[Tensor]:
        """Return the buffers of an averaged teacher, which follow those of each rank's student."""
        if self.choice != "averaged" or self.reference is None:
            return []
        return [b for b in self.reference.module.buffers() if b.is_floating_point()]

    def stop(self) -> None:
        """End an experience; release the student's tensors."""
        super().stop()
        self._followed = None


def _pairs(teacher: CachedTeacher, strategy: Strategy) -> list[tuple[Tensor, Tensor]]:
    """Return the teacher's weights and saved buffers, each with the student's of the same name.

    Tensors of another shape are left out. Buffers that no state holds are constants, such as the
    attention mask of a text tower, whose infinite entries have no average.
    """
    student = tensors_of(unwrap(strategy.model))
    prefix = f"{teacher.root}." if teacher.root else ""
    known, saved = tensors_of(teacher.module), set(teacher.module.state_dict())
    pairs = [(known[name], student.get(prefix + name)) for name in known if name in saved]
    return [(a, b) for a, b in pairs if b is not None and a.shape == b.shape]
