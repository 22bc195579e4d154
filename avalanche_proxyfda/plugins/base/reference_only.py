"""The base of methods that compare embeddings of reference images alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.embedding import EmbeddingPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms


class ReferenceOnlyPlugin(EmbeddingPlugin):
    """Compares the embeddings of reference images, and not those of the training batch.

    A step costs the student's forward on the training batch and one on the reference batch. The
    teacher does not read the training batch. The plugin needs ``reference_data``.

    A method implements :meth:`compare_reference`.

    Args:
        options: see :class:`EmbeddingPlugin`.
    """

    reads_training_batch = False
    least_samples = 1

    @abstractmethod
    def compare_reference(self, student: Tensor, teacher: Tensor, beside: Beside) -> Terms:
        """Return the named terms of a batch of reference images.

        Args:
            student: [B, D], with its graph.
            teacher: [B, D'].
            beside: texts, and values of the model as given.
        """

    def compare(self, student: Any, teacher: Any) -> Terms:
        """Refuse a training batch, which the method does not read."""
        raise TypeError(
            f"{type(self).__name__} compares reference images alone: call compare_reference"
        )
