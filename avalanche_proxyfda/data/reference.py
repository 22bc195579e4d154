"""Reference data: unlabelled images, and texts, beside the training batches."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda._checks import check_count, named_kind
from avalanche_proxyfda._keys import keyed
from avalanche_proxyfda._random import generator, mixed_seed, seeded


@dataclass(frozen=True, eq=False)
class ReferenceBatch:
    """The reference images of one step.

    Attributes:
        numbers: row of each image in the reference data, B different numbers.
        images: [B, C, H, W] on the strategy's device.
    """

    numbers: list[int]
    images: Tensor


class ReferenceData:
    """Unlabelled images, and texts, that plugins compare on beside the training batches.

    The batch of a step depends on the seed, the experience and the step of the experience alone.
    No global random stream is used, so loaders, workers and a resume change nothing. In
    ceil(N / B) steps every image comes at least once, and a batch holds no image twice. The
    view of an image is drawn once, from a stream of its own, also if a transform is random.

    All plugins that get the same object share one student forward a step.

    Args:
        images: a data set of image tensors [C, H, W], or of tuples that begin with one; labels
            are not read. A tensor [N, C, H, W] is such a data set.
        texts: text features, float [M, D], or token ids of the model's text tower, int [M, L];
            None for methods without texts.
        batch: B, images of a step.
        seed: seed of the order and of the views.
        memory: bytes of decoded images of a data set that are kept in host memory; further
            images are read again whenever they come.

    Raises:
        TypeError: if ``images`` is no data set of tensors, or ``texts`` no tensor.
        ValueError: for fewer images than ``batch``, or texts of another shape.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import ReferenceData
        >>> data = ReferenceData(torch.rand(5, 3, 8, 8), batch=2)
        >>> sorted({n for step in range(3) for n in data.numbers(experience=0, step=step)})
        [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        images: Any,
        texts: Tensor | None = None,
        *,
        batch: int = 64,
        seed: int = 0,
        memory: int = 2**30,
    ) -> None:
        _check_images(images)
        self.images = images
        self.texts = None if texts is None else _checked_texts(texts)
        self.batch = check_count("batch", batch, 1)
        self.seed = check_count("seed", seed, 0)
        self.memory = check_count("memory", memory, 0)
        if len(images) < batch:
            raise ValueError(
                f"batch={batch} is more than the {len(images)} reference images: lower batch, or "
                "give more images"
            )
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0
        self._order: tuple[tuple[int, int], Tensor] | None = None
        self._digest: str | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def tokens(self) -> Tensor | None:
        """The texts if they are token ids, [M, L]; else None."""
        ids = self.texts is not None and not self.texts.is_floating_point()
        return self.texts if ids else None

    def numbers(self, experience: int, step: int) -> list[int]:
        """Return the rows of the images of a step.

        Args:
            experience: number of the experience in the training.
            step: number of the batch in the experience.
        """
        count, size = len(self.images), self.batch
        turn, at = divmod(step, -(-count // size))
        if self._order is None or self._order[0] != (experience, turn):
            stream = generator("reference", self.seed, experience, turn)
            self._order = (experience, turn), torch.randperm(count, generator=stream)
        order = self._order[1]
        rows = order[at * size : (at + 1) * size]
        return torch.cat((rows, order[: size - len(rows)])).tolist()

    def batch_of(self, experience: int, step: int, device: torch.device) -> ReferenceBatch:
        """Return the batch of a step on ``device``; the host does not wait for the device.

        Raises:
            TypeError, ValueError: if the data set gives no float tensors [C, H, W] of one shape.
        """
        numbers = self.numbers(experience, step)
        if isinstance(self.images, Tensor):
            index = _sent(torch.tensor(numbers), self.images.device)
            return ReferenceBatch(numbers, _sent(self.images.index_select(0, index), device))
        images = [self._image(number) for number in numbers]
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) > 1:
            raise ValueError(
                f"the reference images have several shapes, {sorted(shapes)}: give the data set a "
                "transform that resizes and crops them as the training view does"
            )
        return ReferenceBatch(numbers, _sent(torch.stack(images), device))

    def _image(self, number: int) -> Tensor:
        """Return the view of one image, the same one each time."""
        if number in self._kept:
            return self._kept[number]
        parts = ("reference view", self.seed, number)
        with seeded(mixed_seed(*parts)), keyed(*parts):
            item = self.images[number]
        image = item[0] if isinstance(item, (tuple, list)) and item else item
        if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point():
            raise TypeError(
                f"reference image {number} is {_kind(image)}, and a float tensor [C, H, W] is "
                "expected: give the data set the transform of the evaluation view"
            )
        size = image.numel() * image.element_size()
        if self._bytes + size <= self.memory:
            self._kept[number], self._bytes = image, self._bytes + size
        return image

    def about(self) -> dict[str, int | str]:
        """Return what decides the batches: numbers of images, batch and seed, and a digest.

        The digest is a hash of the texts and of the views of the first, the middle and the last
        image. Reading it once costs three images, and waits for the device of a tensor of images.
        """
        if self._digest is None:
            count = len(self.images)
            shown = [self._view(number) for number in sorted({0, count // 2, count - 1})]
            parts = shown if self.texts is None else [*shown, self.texts]
            self._digest = hashlib.sha256(b"".join(map(_content, parts))).hexdigest()
        numbers = {"images": len(self.images), "batch": self.batch, "seed": self.seed}
        return {**numbers, "digest": self._digest}

    def _view(self, number: int) -> Tensor:
        return self.images[number] if isinstance(self.images, Tensor) else self._image(number)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the decoded images, for pickling."""
        return {**self.__dict__, "_kept": {}, "_bytes": 0, "_order": None}


def _check_images(images: Any) -> None:
    if isinstance(images, Tensor):
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"images is {_kind(images)}: a tensor of reference images is float [N, C, H, W], "
                "normalised as the training images are"
            )
        return
    if isinstance(images, (str, bytes, os.PathLike)):
        raise TypeError(
            f"images={images!r} is a path: pass a data set of its images, such as "
            "avalanche_proxyfda.data.reference_images.image_folder(path, transform)"
        )
    readable = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    if not readable or isinstance(images, (IterableDataset, dict)):
        raise TypeError(
            f"images is {named_kind(images)}, which is no data set with a length and "
            "numbered images: pass a torch Dataset, or a tensor [N, C, H, W]"
        )


def _checked_texts(texts: Tensor) -> Tensor:
    if not isinstance(texts, Tensor):
        raise TypeError(
            f"texts is {named_kind(texts)}: pass text features, float [M, D], or token ids, "
            "int [M, L], as the model's tokenizer gives them"
        )
    if texts.ndim != 2 or len(texts) == 0 or texts.dtype == torch.bool or texts.is_complex():
        raise ValueError(
            f"texts is {_kind(texts)}: pass text features, float [M, D], or token ids, int [M, L]"
        )
    return texts.detach() if texts.is_floating_point() else texts.detach().long()


def _content(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().reshape(-1)
    head = f"{value.dtype} {tuple(value.shape)}\n".encode()
    return head + flat.view(torch.uint8).numpy().tobytes()


def _kind(value: Any) -> str:
    """Return the class of a value with its article, with dtype and shape if it is a tensor."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return named_kind(value)


def _sent(values: Tensor, device: torch.device) -> Tensor:
    if values.device.type == "cpu" and pins_memory(device):
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
