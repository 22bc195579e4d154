"""The reference data of a run: images and texts beside the stream."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Subset

from avalanche_proxyfda._random import generator
from avalanche_proxyfda.data.procedural import ProceduralImages
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.data.reference_images import image_folder, image_pack, torchvision_images
from avalanche_proxyfda.data.reference_texts import (
    random_tokens,
    texts_of_classes,
    texts_of_file,
)
from avalanche_proxyfda.models import Backbone
from avalanche_proxyfda.models.text_tokens import text_tokens
from avalanche_proxyfda.models.text_tower import TextTower, find_text_tower
from avalanche_proxyfda.plugins.base.reference_texts import context_of, padded
from avalanche_proxyfda.streams.files.images import list_hash
from benchmarks.config import Config
from benchmarks.results.record import ReferenceData as About
from benchmarks.streams.stream import Stream
from benchmarks.streams.texts.lookup import stream_texts

_PROCEDURAL = 2048
_STRINGS = (80, 8)  # Lipsum-FT's number and length of random texts
_TEXTS_AT_ONCE = 1024  # texts of a forward of the text tower


@dataclass(frozen=True, eq=False)
class Reference:
    """The reference data of a run.

    Attributes:
        data: images and texts for the plugin.
        about: identity of both, for the record.
    """

    data: ReferenceData
    about: About


def load_reference(
    config: Config, backbone: Backbone, stream: Stream, model: nn.Module
) -> Reference:
    """Load images and texts that ``config.reference_data`` names.

    Images get the evaluation view of the backbone. Texts are token ids if ``model`` trains with a
    text tower. Otherwise the backbone's text tower encodes them once.

    Args:
        config: configuration of the run.
        backbone: has the view, and the text tower.
        stream: has the classes.
        model: the model of the run.

    Raises:
        FileNotFoundError: if images or a file of texts are missing.
        ValueError: for a folder without images, fewer images than ``reference_data.batch``,
            texts without a text tower, or a text that is longer than its context.
    """
    part = config.reference_data
    images, digest = _images(config, backbone)
    texts, texts_digest = _texts(config, backbone, stream, model)
    try:
        data = ReferenceData(images, texts, batch=part.batch, seed=part.seed)
    except ValueError as error:
        raise ValueError(f"reference_data.images={part.images}: {error}") from error
    count = None if texts is None else len(texts)
    return Reference(data, About(len(images), digest, count, texts_digest))


def describe_reference(
    config: Config, backbone: Backbone, stream: Stream, model: nn.Module
) -> About:
    """Return the identity of the reference data; no text is encoded.

    Args:
        config: configuration of the run.
        backbone: has the view, and the text tower.
        stream: has the classes.
        model: the model of the run.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_reference`.
    """
    images, digest = _images(config, backbone)
    tokens, texts_digest = _tokens(config, backbone, stream, model)
    return About(len(images), digest, None if tokens is None else len(tokens), texts_digest)


def _images(config: Config, backbone: Backbone) -> tuple[Any, str]:
    """Return the data set of images, and its SHA-256."""
    part, view = config.reference_data, backbone.eval_transform
    name = part.images or ""
    kind, _, place = name.partition(":")
    if name == "procedural":
        shown = view(Image.fromarray(np.zeros((64, 64, 3), np.uint8)))
        side, count = int(shown.shape[-1]), part.count or _PROCEDURAL
        made = ProceduralImages(count, side, part.seed, view)
        return made, list_hash([f"{name} {count} {side} {part.seed}"])
    try:
        if kind == "folder" and place:
            found = image_folder(config.at(place), view)
        elif kind == "npz" and place:
            found = image_pack(config.at(place), view)
        else:
            found = torchvision_images(name, config.at(""), view)
    except ValueError as error:
        raise ValueError(
            f"reference_data.images={name!r}: {error}; or set it to procedural"
        ) from error
    if part.count is None or part.count >= len(found):
        return found, found.sha256
    stream = generator("reference images", part.seed)
    rows = torch.randperm(len(found), generator=stream)[: part.count].sort().values.tolist()
    return Subset(found, rows), list_hash([f"{found.sha256} {row}" for row in rows])


def _texts(
    config: Config, backbone: Backbone, stream: Stream, model: nn.Module
) -> tuple[Tensor | None, str | None]:
    """Return texts as features or token ids, and the SHA-256 of the ids."""
    tokens, digest = _tokens(config, backbone, stream, model)
    if tokens is None or find_text_tower(model) is not None:
        return tokens, digest
    tower = _tower(backbone, model)
    tower.eval()
    with torch.no_grad():
        parts = [tower(padded(tower, part)) for part in tokens.split(_TEXTS_AT_ONCE)]
    return torch.cat(parts), digest


def _tower(backbone: Backbone, model: nn.Module) -> TextTower:
    """Return the text tower of the model, or else of the backbone."""
    own = find_text_tower(model)
    if own is not None:
        return own
    assert backbone.clip is not None
    return TextTower(backbone.clip)


def _tokens(
    config: Config, backbone: Backbone, stream: Stream, model: nn.Module
) -> tuple[Tensor | None, str | None]:
    """Return the token ids of the texts, and their SHA-256; None without texts."""
    name = config.reference_data.texts
    if name is None:
        return None, None
    if backbone.clip is None or backbone.tokenizer is None:
        raise ValueError(
            f"reference_data.texts={name}: {backbone.name} has no text tower; set "
            "reference_data.texts=null, or take a backbone of open_clip"
        )
    tokens = _token_ids(config, backbone.tokenizer, stream, _tower(backbone, model))
    return tokens, hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def _token_ids(config: Config, tokenizer: Any, stream: Stream, tower: TextTower) -> Tensor:
    """Return token ids, int64 [M, L] on the CPU."""
    name = config.reference_data.texts or ""
    if name == "random":
        count, length = _STRINGS
        empty = tokenizer([""])[0].tolist()  # a start token, if there is one, and an end token
        ends = [token for token in empty if token != 0]
        size = context_of(tower)[1]
        tokens = random_tokens(
            count, length, size, config.reference_data.seed, ends=(ends[0], ends[-1])
        )
        return tokens if len(ends) > 1 else tokens[:, 1:]
    if name == "classes":
        words = [word for of_set in stream_texts(config, stream) for word in of_set.words]
        texts = texts_of_classes(words, config.head.templates[0])
    else:
        texts = texts_of_file(config.at(name))
    return text_tokens(tokenizer, texts).long()
