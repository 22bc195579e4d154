"""Views of images on uint8 tensors: decode, resize, crop; floats come later, on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from torch import Tensor

from avalanche_proxyfda._keys import uniform
from avalanche_proxyfda.pixels.batch import Pixels
from avalanche_proxyfda.pixels.decode import REDUCED, ROW, Opened, check_decoder, denominator_for
from avalanche_proxyfda.pixels.finish import Finish, Interpolation, resize
from avalanche_proxyfda.pixels.geometry import RandomCrop, Resizing
from avalanche_proxyfda.pixels.rows import RowStore, StoredRow
from avalanche_proxyfda.streams.files.encoded import EncodedImages

Augment = Literal["none", "crop", "flip-crop"]
CROPS: dict[str, RandomCrop] = {
    "crop": RandomCrop((0.9, 1.0)),
    "flip-crop": RandomCrop((0.08, 1.0), flip=True),
}
"""The random views by name."""


@dataclass(frozen=True)
class PixelView:
    """A view of images for :class:`~avalanche_proxyfda.pixels.batch.PixelBatch`.

    A data set's transform takes images of PIL; this one also takes images that are not decoded,
    see :class:`~avalanche_proxyfda.streams.files.encoded.EncodedImages`, and decodes a JPEG itself,
    a large one at a reduced size. Of other images, PIL decodes the whole.

    Attributes:
        resizing: resize and centre crop of the view without randomness.
        finish: makes the model's images on the device.
        crop: draws random boxes; None for the view without randomness.
        store: keeps resized images; None decodes an image whenever it is read.

    Example:
        >>> from PIL import Image
        >>> from avalanche_proxyfda.pixels import Finish, PixelView, Resizing
        >>> view = PixelView(Resizing(8, 8), Finish(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
        >>> pixels = view(Image.new("RGB", (32, 24), "white"))
        >>> pixels.row.shape, pixels.row.dtype, pixels.image().shape
        (torch.Size([8, 8, 3]), torch.uint8, torch.Size([3, 8, 8]))
    """

    resizing: Resizing
    finish: Finish
    crop: RandomCrop | None = None
    store: RowStore | None = None

    def __post_init__(self) -> None:
        check_decoder()

    def __call__(self, image: Any) -> Pixels:
        """Return the view of an image.

        Args:
            image: a stored image, an image of PIL, or a stored row.

        Raises:
            UnreadableImage: if the image is damaged.
        """
        if isinstance(image, StoredRow):
            return self._of_row(image)
        opened = Opened(image)
        if self.crop is None:
            row, way = self.row(opened, self.resizing)
        else:
            row, way = self._random(opened, self.crop)
        return Pixels(row, self.finish, way)

    def row(self, opened: Opened, resizing: Resizing) -> tuple[Tensor, int]:
        """Return the centre of the resized image, [side, side, 3] uint8, and the way."""
        wanted = resizing.resized(opened.height, opened.width)
        part = min(opened.height / wanted[0], opened.width / wanted[1]) * resizing.short
        image, way = opened.decode(denominator_for(part, resizing.short))
        image = resize(image, wanted, self.finish.interpolation)
        top, left = resizing.corner(*wanted)
        side = resizing.side
        return image[:, top : top + side, left : left + side].permute(1, 2, 0), way

    def _random(self, opened: Opened, crop: RandomCrop) -> tuple[Tensor, int]:
        side = self.finish.side
        top, left, height, width, flip = crop.box(opened.height, opened.width, uniform())
        denominator = denominator_for(min(height, width), side)
        image, way = opened.decode(denominator)
        if way == REDUCED:
            top, left = top // denominator, left // denominator
            height, width = height // denominator, width // denominator
        part = image[:, top : top + height, left : left + width]
        shown = resize(part, (side, side), self.finish.interpolation)
        return (shown.flip(2) if flip else shown).permute(1, 2, 0), way

    def _of_row(self, stored: StoredRow) -> Pixels:
        if self.crop is not None:
            height, width = stored.row.shape[:2]
            return Pixels(stored.row, self.finish, ROW, self.crop.box(height, width, uniform()))
        if stored.resizing == self.resizing:
            return Pixels(stored.row, self.finish, ROW)
        return Pixels(stored.row, self.finish, ROW, self.resizing.centre_of(stored.resizing))

    def source(self, data: Any) -> Any:
        """Return the images of a data set as this view takes them: undecoded, or stored rows.

        Stored rows are larger than the view's images if the view is random. They are built here
        if the store lacks them.

        Args:
            data: data set with ``targets``; its items are images of PIL with labels.

        Raises:
            UnreadableImage: if an image is damaged, and rows are built.
            ValueError, OSError: if the rows exceed the store's bound, or cannot be written.
        """
        encoded = EncodedImages(data)
        if self.store is None:
            return encoded
        resizing = self.resizing if self.crop is None else self.resizing.rows()

        def row(image: Any) -> Tensor:
            return self.row(Opened(image), resizing)[0]

        return self.store.images(encoded, row, resizing, self.finish.interpolation)


def pixel_views(
    evaluation: Callable[[Any], Any], augment: Augment = "none", store: RowStore | None = None
) -> tuple[PixelView, PixelView]:
    """Translate a library's evaluation view.

    Args:
        evaluation: the ``eval_transform`` of a
            :class:`~avalanche_proxyfda.models.backbone.Backbone`, or another chain of
            torchvision's transforms: resize, centre crop, conversion, normalisation.
        augment: ``"crop"``: random crops of 90 % of the image or more. ``"flip-crop"``: 8 % or
            more, mirrored at random. ``"none"``: the evaluation view.
        store: keeps resized images; None decodes an image whenever it is read.

    Returns:
        The views for training and for evaluation.

    Raises:
        ImportError: if torchvision cannot decode JPEGs.
        ValueError: for a step that has no translation, or an unknown ``augment``.

    Example:
        >>> from avalanche_proxyfda.models.preprocessing import eval_view
        >>> from avalanche_proxyfda.pixels import pixel_views
        >>> half = [0.5, 0.5, 0.5]
        >>> view = eval_view({"library": "torchvision", "size": 8, "mean": half, "std": half})
        >>> train, evaluation = pixel_views(view, "crop")
        >>> evaluation.resizing, train.crop.scale
        (Resizing(short=8, side=8, squash=False), (0.9, 1.0))
    """
    if augment not in get_args(Augment):
        raise ValueError(
            f"augment={augment!r} is none of {', '.join(get_args(Augment))}: the views of a "
            "library work on images of PIL; take pipeline='pil' for them (train.pipeline=pil)"
        )
    found: dict[str, Any] = {}
    for step in getattr(evaluation, "transforms", (evaluation,)):
        name = getattr(step, "__name__", type(step).__name__)
        if name in _IGNORED:
            continue
        if name not in ("Resize", "CenterCrop", "Normalize") or name in found:
            raise ValueError(
                f"the evaluation view has the step {name}, which has no translation to uint8 "
                "tensors: take pipeline='pil' (train.pipeline=pil)"
            )
        found[name] = step
    if set(found) != {"Resize", "CenterCrop", "Normalize"} and set(found) != {
        "Resize",
        "Normalize",
    }:
        raise ValueError(
            f"the evaluation view has the steps {sorted(found)}, and a translation to uint8 "
            "tensors needs a resize and a normalisation: take pipeline='pil' (train.pipeline=pil)"
        )
    resizing = _resizing(found)
    colours = [tuple(map(float, getattr(found["Normalize"], k))) for k in ("mean", "std")]
    kind = str(getattr(found["Resize"].interpolation, "value", found["Resize"].interpolation))
    if kind not in get_args(Interpolation) or any(len(colour) != 3 for colour in colours):
        raise ValueError(
            f"the evaluation view resizes by {kind}, with mean and std {colours}; uint8 tensors "
            "have bilinear and bicubic resizes and three channels: take pipeline='pil' "
            "(train.pipeline=pil)"
        )
    mean, std = cast(Any, colours)
    finish = Finish(resizing.side, mean, std, cast(Interpolation, kind))
    plain = PixelView(resizing, finish, None, store)
    if augment == "none":
        return plain, plain
    # random crops are bicubic whatever the evaluation view is, as with pipeline="pil"
    return PixelView(
        resizing, replace(finish, interpolation="bicubic"), CROPS[augment], store
    ), plain


_IGNORED = (
    "_convert_to_rgb",
    "MaybeConvertMode",
    "ToTensor",
    "MaybeToTensor",
    "ToImage",
    "ToDtype",
    "PILToTensor",
)
"""Steps that change no pixel of an RGB image."""


def _resizing(found: dict[str, Any]) -> Resizing:
    size = found["Resize"].size
    sides = [size] if isinstance(size, int) else list(size)
    crop = found["CenterCrop"].size if "CenterCrop" in found else sides
    crops = [crop] if isinstance(crop, int) else list(crop)
    squash = len(sides) == 2  # v2 has a list of one side for the shorter side
    if len(set(sides)) > 1 or len(set(crops)) > 1 or ("CenterCrop" not in found and not squash):
        raise ValueError(
            f"the evaluation view resizes to {size} and crops to {crop}: uint8 tensors have square "
            "views alone; take pipeline='pil' (train.pipeline=pil)"
        )
    return Resizing(int(sides[0]), int(crops[0]), squash)
