"""Images as uint8 from the file to the device: decoding, views, batches, rows on disk."""

from avalanche_proxyfda.pixels.batch import PixelBatch, Pixels
from avalanche_proxyfda.pixels.finish import Finish
from avalanche_proxyfda.pixels.geometry import RandomCrop, Resizing
from avalanche_proxyfda.pixels.plugin import InputPipeline
from avalanche_proxyfda.pixels.rows import PixelRows, RowImages, RowStore
from avalanche_proxyfda.pixels.views import PixelView, pixel_views

__all__ = [
    "Finish",
    "InputPipeline",
    "PixelBatch",
    "PixelRows",
    "PixelView",
    "Pixels",
    "RandomCrop",
    "Resizing",
    "RowImages",
    "RowStore",
    "pixel_views",
]
