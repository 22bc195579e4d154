"""The last step of a view, on the model's device: crops, and numbers for the model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from avalanche_proxyfda._tensors import without_autocast

Interpolation = Literal["bilinear", "bicubic"]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Finish:
    """Makes images of the model from uint8 pixels: (pixel / 255 - mean) / std, in float32.

    Attributes:
        side: side of the images.
        mean: mean of the channels.
        std: standard deviation of the channels.
        interpolation: ``"bilinear"`` or ``"bicubic"``, with antialiasing, for crops.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.pixels import Finish
        >>> finish = Finish(side=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> white = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8)
        >>> box = torch.tensor([[0, 0, 4, 4, 0]], dtype=torch.int32)  # the upper left quarter
        >>> images = finish(white, box)
        >>> images.shape, images.unique()
        (torch.Size([1, 3, 2, 2]), tensor([1.]))
    """

    side: int
    mean: Colour
    std: Colour
    interpolation: Interpolation = "bicubic"

    @property
    def digest(self) -> bytes:
        """A hash of the settings, 16 bytes."""
        return hashlib.sha256(repr(self).encode()).digest()[:16]

    def __call__(self, rows: Tensor, boxes: Tensor | None) -> Tensor:
        """Crop, resize and normalise on the device of ``rows``, without waiting for it.

        Args:
            rows: [B, H, W, 3] uint8.
            boxes: [B, 5] int32, see :data:`~avalanche_proxyfda.pixels.geometry.Box`, on the
                device of ``rows``; None takes the rows as they are.

        Returns:
            [B, 3, side, side] float32.
        """
        if boxes is None:
            # on a CPU it is faster to reorder bytes than floats
            images = rows.permute(0, 3, 1, 2).contiguous().float()
        elif rows.device.type == "cpu":
            images = self._cropped_one_by_one(rows, boxes).float()
        else:
            with without_autocast(rows):  # 255 steps need float32
                images = self._cropped_at_once(rows, boxes)
        mean, std = _constants(self.mean, self.std, rows.device)
        return images.div_(255).sub_(mean).div_(std)

    def _cropped_one_by_one(self, rows: Tensor, boxes: Tensor) -> Tensor:
        images = rows.new_empty(len(rows), 3, self.side, self.side)
        for image, row, (top, left, height, width, flip) in zip(
            images, rows, boxes.tolist(), strict=True
        ):
            part = row[top : top + height, left : left + width].permute(2, 0, 1)
            shown = resize(part, (self.side, self.side), self.interpolation)
            image.copy_(shown.flip(2) if flip else shown)
        return images

    def _cropped_at_once(self, rows: Tensor, boxes: Tensor) -> Tensor:
        """Crop as two products with matrices of weights, to within two steps of 255 of the CPU."""
        top, left, height, width, flip = boxes.float().unbind(1)
        down = _weights(top, height, rows.shape[1], self.side, self.interpolation)
        across = _weights(left, width, rows.shape[2], self.side, self.interpolation)
        across = torch.where(flip.view(-1, 1, 1) > 0, across.flip(1), across)
        images = rows.permute(0, 3, 1, 2).float()
        images = (images @ across.unsqueeze(1).mT).round_().clamp_(0, 255)
        return (down.unsqueeze(1) @ images).round_().clamp_(0, 255)


def resize(image: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Resize a uint8 image [3, H, W] with antialiasing, as PIL does to within one step of 255.

    The result is in memory by rows of pixels if the image is.
    """
    if image.shape[1:] == size:
        return image
    # strides of a batch in channels-last format, in which torch neither unpacks nor packs pixels
    batch = image.permute(1, 2, 0).unsqueeze(0).permute(0, 3, 1, 2)
    return interpolate(batch, size, mode=interpolation, antialias=True, align_corners=False)[0]


def _weights(start: Tensor, length: Tensor, pixels: int, side: int, kind: Interpolation) -> Tensor:
    """Return the weights [B, side, pixels] of an antialiased resize of parts of a line.

    Args:
        start: first pixel of each part, [B].
        length: number of pixels of each part, [B].
        pixels: number of pixels of the line.
        side: number of pixels after the resize.
        kind: interpolation.
    """
    scale = (length / side).view(-1, 1, 1)
    stretch = scale.clamp(min=1.0)
    places = torch.arange(side, device=start.device).view(1, -1, 1) + 0.5
    line = torch.arange(pixels, device=start.device).view(1, 1, -1)
    inside = line - start.view(-1, 1, 1)
    x = ((inside + 0.5 - scale * places) / stretch).abs()
    if kind == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:  # Keys' kernel with a = -1/2, as in PIL
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    weights = weights * ((inside >= 0) & (inside < length.view(-1, 1, 1)))
    return weights / weights.sum(2, keepdim=True)


@lru_cache(maxsize=16)
def _constants(mean: Colour, std: Colour, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and std [3, 1, 1]; copied once, since a copy waits for the device."""
    pair = torch.tensor([mean, std], device=device).view(2, 3, 1, 1)
    return pair[0], pair[1]
