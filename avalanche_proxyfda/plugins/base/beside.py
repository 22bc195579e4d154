"""Everything of a reference batch beside the values of the student and of its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Beside:
    """Everything of a reference batch beside the student's and the teacher's values.

    Attributes:
        numbers: row of each image in the reference data.
        student_texts: [M, D], the student's text features; None unless ``reads_texts``.
        teacher_texts: [M, D], the teacher's.
        initial: values of the model as given; None unless ``also_initial``.
        initial_texts: [M, D], text features of the model as given.
    """

    numbers: list[int]
    student_texts: Tensor | None = None
    teacher_texts: Tensor | None = None
    initial: Any = None
    initial_texts: Tensor | None = None
