"""Draws one labelled 32 x 32 image, with words for what it shows.

There are seven kinds of picture, and each kind is one data set: shapes, textures, colours,
Latin, Greek and Cyrillic letters, and printed digits. The glyphs are set in the DejaVu fonts
that matplotlib ships, so nothing is downloaded. A picture depends on the given random
generator alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIZE = 32
_CANVAS = 64  # masks are drawn at twice the size and reduced: smooth edges

Mask = NDArray[np.float32]  # [SIZE, SIZE], 1 where the figure is

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (240, 140, 20),
    "yellow": (240, 225, 40),
    "green": (40, 165, 50),
    "cyan": (40, 205, 215),
    "blue": (40, 70, 220),
    "purple": (135, 45, 175),
    "pink": (245, 135, 185),
    "brown": (125, 75, 35),
    "grey": (128, 128, 128),
}
_NEUTRAL = {"white": (245, 245, 245), "black": (15, 15, 15)}

SHAPES = (
    "circle",
    "square",
    "triangle",
    "pentagon",
    "hexagon",
    "star",
    "cross",
    "ring",
    "diamond",
    "half disc",
)
TEXTURES = (
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "checkerboard",
    "dots",
    "grid lines",
    "speckle",
    "concentric rings",
    "waves",
    "rays",
)
GREEK = {
    "Γ": "gamma",
    "Δ": "delta",
    "Θ": "theta",
    "Λ": "lambda",
    "Ξ": "xi",
    "Π": "pi",
    "Σ": "sigma",
    "Φ": "phi",
    "Ψ": "psi",
    "Ω": "omega",
    "α": "small alpha",
    "β": "small beta",
    "γ": "small gamma",
    "δ": "small delta",
    "λ": "small lambda",
    "ξ": "small xi",
}
CYRILLIC = {
    "Б": "be",
    "Д": "de",
    "Ж": "zhe",
    "З": "ze",
    "И": "i",
    "Й": "short i",
    "Ц": "tse",
    "Ч": "che",
    "Ш": "sha",
    "Щ": "shcha",
    "Ъ": "hard sign",
    "Ы": "yery",
    "Ь": "soft sign",
    "Э": "e",
    "Ю": "yu",
    "Я": "ya",
}
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GLYPHS: dict[str, tuple[str, ...]] = {
    "latin": tuple(_LATIN),
    "greek": tuple(GREEK),
    "cyrillic": tuple(CYRILLIC),
    "printed": tuple("0123456789"),
}
_FACES = (
    ("sans", "DejaVuSans.ttf"),
    ("bold sans", "DejaVuSans-Bold.ttf"),
    ("italic sans", "DejaVuSans-Oblique.ttf"),
    ("mono", "DejaVuSansMono.ttf"),
    ("bold mono", "DejaVuSansMono-Bold.ttf"),
    ("serif", "DejaVuSerif.ttf"),
    ("bold serif", "DejaVuSerif-Bold.ttf"),
    ("italic serif", "DejaVuSerif-Italic.ttf"),
)


@dataclass(frozen=True)
class Picture:
    """One drawn picture.

    Attributes:
        pixels: uint8 [32, 32, 3].
        subject: phrase for the class.
        details: further words: size, style, colours.
    """

    pixels: NDArray[np.uint8]
    subject: str
    details: tuple[str, ...]


def class_names(kind: str) -> tuple[str, ...]:
    """Phrase for each class of ``kind``, by label.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind == "shapes":
        return SHAPES
    if kind == "textures":
        return TEXTURES
    if kind == "colours":
        return tuple(f"colour {name}" for name in COLOURS)
    if kind == "latin":
        return tuple(f"latin {c}" for c in _LATIN)
    if kind == "greek":
        return tuple(f"greek {n}" for n in GREEK.values())
    if kind == "cyrillic":
        return tuple(f"cyrillic {n}" for n in CYRILLIC.values())
    if kind in ("printed", "digits"):
        return tuple(f"digit {n}" for n in DIGIT_NAMES)
    raise ValueError(f"kind={kind!r} is unknown; choose one of {(*KINDS, 'digits')}")


@lru_cache(maxsize=256)
def _font(file: str, points: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf" / file), points)


def _reduce(mask: Image.Image, angle: float) -> Mask:
    turned = mask.rotate(angle, resample=Image.Resampling.BILINEAR)
    small = turned.resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0


def _glyph(text: str, face: str, rng: np.random.Generator) -> Mask:
    mask = Image.new("L", (_CANVAS, _CANVAS))
    at = tuple(_CANVAS / 2 + rng.uniform(-6, 6, 2))
    font = _font(face, int(rng.integers(36, 58)))
    ImageDraw.Draw(mask).text((at[0], at[1]), text, fill=255, font=font, anchor="mm")
    return _reduce(mask, float(rng.uniform(-12, 12)))


def _polygon(corners: int, radius: float, inner: float = 1.0) -> list[tuple[float, float]]:
    steps = corners if inner == 1.0 else 2 * corners
    points = []
    for k in range(steps):
        r = radius if inner == 1.0 or k % 2 == 0 else radius * inner
        turn = 2 * math.pi * k / steps - math.pi / 2
        points.append((r * math.cos(turn), r * math.sin(turn)))
    return points


def _shape(name: str, rng: np.random.Generator) -> tuple[Mask, str]:
    mask = Image.new("L", (_CANVAS, _CANVAS))
    draw = ImageDraw.Draw(mask)
    radius = float(rng.uniform(13, 27))
    cx, cy = (_CANVAS / 2 + rng.uniform(-6, 6, 2)).tolist()
    box = (cx - radius, cy - radius, cx + radius, cy + radius)
    if name == "circle":
        draw.ellipse(box, fill=255)
    elif name == "ring":
        draw.ellipse(box, outline=255, width=max(4, int(radius * 0.35)))
    elif name == "half disc":
        draw.pieslice(box, 0, 180, fill=255)
    elif name == "cross":
        arm = radius * 0.33
        draw.rectangle((cx - arm, cy - radius, cx + arm, cy + radius), fill=255)
        draw.rectangle((cx - radius, cy - arm, cx + radius, cy + arm), fill=255)
    else:
        if name == "square":
            side = radius * 0.8
            points = [(-side, -side), (side, -side), (side, side), (-side, side)]
        elif name == "diamond":
            points = [(0, -radius), (radius * 0.65, 0), (0, radius), (-radius * 0.65, 0)]
        elif name == "star":
            points = _polygon(5, radius, inner=0.42)
        else:
            points = _polygon({"triangle": 3, "pentagon": 5, "hexagon": 6}[name], radius)
        draw.polygon([(cx + x, cy + y) for x, y in points], fill=255)
    return _reduce(mask, float(rng.uniform(-15, 15))), "large" if radius > 20 else "small"


def _texture(name: str, rng: np.random.Generator) -> Mask:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    period, phase = rng.uniform(4, 10), rng.uniform(0, 2 * math.pi)
    tilt = rng.uniform(-0.15, 0.15)
    u = x * math.cos(tilt) + y * math.sin(tilt)
    v = y * math.cos(tilt) - x * math.sin(tilt)
    w = 2 * math.pi / period
    cx, cy = rng.uniform(8, 24, 2)
    waves: dict[str, Callable[[], NDArray[np.float32]]] = {
        "horizontal stripes": lambda: np.sin(w * v + phase),
        "vertical stripes": lambda: np.sin(w * u + phase),
        "diagonal stripes": lambda: np.sin(w * (u + v) * 0.71 + phase),
        "checkerboard": lambda: np.sin(w * u + phase) * np.sin(w * v + phase),
        "dots": lambda: np.cos(w * u + phase) + np.cos(w * v + phase) - 0.9,
        "grid lines": lambda: np.maximum(np.cos(w * u + phase), np.cos(w * v + phase)) - 0.7,
        "speckle": lambda: rng.standard_normal((SIZE, SIZE)),
        "concentric rings": lambda: np.sin(w * np.hypot(x - cx, y - cy) + phase),
        "waves": lambda: np.sin(w * (v + 2.5 * np.sin(x * 0.5 + phase))),
        "rays": lambda: np.sin(rng.integers(5, 9) * np.arctan2(y - cy, x - cx) + phase),
    }
    value = waves[name]()
    return np.clip(value * rng.uniform(1.5, 4) + 0.5, 0, 1).astype(np.float32)


def _colour(rng: np.random.Generator) -> tuple[str, NDArray[np.float32]]:
    names = list(COLOURS) + list(_NEUTRAL)
    name = names[int(rng.integers(len(names)))]
    return name, np.asarray({**COLOURS, **_NEUTRAL}[name], dtype=np.float32)


def _luminance(rgb: NDArray[np.float32]) -> float:
    return float(rgb @ np.asarray((0.30, 0.59, 0.11), dtype=np.float32))


def _compose(
    mask: Mask, fore: NDArray[np.float32], back: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    fore, back = (c + rng.normal(0, 12, 3).astype(np.float32) for c in (fore, back))
    shade = np.linspace(-1, 1, SIZE, dtype=np.float32) * rng.uniform(-30, 30)
    image = mask[..., None] * fore + (1 - mask[..., None]) * back
    image = image + (shade[:, None, None] if rng.random() < 0.5 else shade[None, :, None])
    image = image + rng.normal(0, rng.uniform(2, 16), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _contrasting(
    rng: np.random.Generator, fore: NDArray[np.float32] | None = None
) -> tuple[str, NDArray[np.float32], str, NDArray[np.float32]]:
    name = "" if fore is not None else "unset"
    while True:  # about every second pair of colours differs enough in luminance
        if name:
            name, fore = _colour(rng)
        back_name, back = _colour(rng)
        assert fore is not None
        if abs(_luminance(fore) - _luminance(back)) > 55:
            return name, fore, back_name, back


def draw(kind: str, label: int, rng: np.random.Generator) -> Picture:
    """Draw a picture of a class.

    Args:
        kind: one of :data:`KINDS`.
        label: label of the class.
        rng: random generator; drawing advances it.

    Raises:
        ValueError: if the kind or the label is unknown.
    """
    names = class_names(kind)
    if kind == "digits" or not 0 <= label < len(names):
        raise ValueError(f"label={label} of kind={kind!r} cannot be drawn; {len(names)} classes")
    if kind == "colours":
        return _draw_colour(list(COLOURS)[label], rng)
    fore_name, fore, back_name, back = _contrasting(rng)
    details: tuple[str, ...] = (f"{fore_name} on {back_name}",)
    if kind == "shapes":
        mask, size = _shape(names[label], rng)
        details = (size, *details)
    elif kind == "textures":
        mask = _texture(names[label], rng)
    else:
        style, file = _FACES[int(rng.integers(len(_FACES)))]
        mask = _glyph(_GLYPHS[kind][label], file, rng)
        details = (style, *details)
    return Picture(_compose(mask, fore, back, rng), names[label], details)


def _draw_colour(name: str, rng: np.random.Generator) -> Picture:
    """Draw the colour ``name``: plain, or as a shape or texture on black or white."""
    fore = np.asarray(COLOURS[name], dtype=np.float32)
    back_name = list(_NEUTRAL)[int(rng.integers(2))]
    back = np.asarray(_NEUTRAL[back_name], dtype=np.float32)
    form = int(rng.integers(3))
    if form == 0:
        mask, what = np.ones((SIZE, SIZE), dtype=np.float32), "plain"
    elif form == 1:
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        mask, size = _shape(shape, rng)
        what = f"{size} {shape} on {back_name}"
    else:
        texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
        mask, what = _texture(texture, rng), f"{texture} on {back_name}"
    return Picture(_compose(mask, fore, back, rng), f"colour {name}", (what,))


def wear(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Copy a picture, faded, with a bar across it and coarse noise.

    No picture of the pre-training corpus looks worn, so fine-tuning has something to learn.

    Args:
        pixels: [32, 32, 3] uint8.
        rng: random generator; the call advances it.

    Returns:
        [32, 32, 3] uint8.
    """
    image = pixels.astype(np.float32)
    image = image.mean() + (image - image.mean()) * rng.uniform(0.5, 0.9)
    start, width = int(rng.integers(2, SIZE - 5)), int(rng.integers(2, 4))
    bar = (slice(start, start + width), slice(None))
    image[bar if rng.random() < 0.5 else bar[::-1]] = rng.uniform(0, 255, 3)
    image = image + rng.normal(0, rng.uniform(8, 24), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


KINDS = ("shapes", "textures", "colours", "latin", "greek", "cyrillic", "printed")
