"""Features of class names by a CLIP model's text tower, computed once for the same content."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from avalanche_proxyfda._files import write_bytes
from avalanche_proxyfda._modes import in_eval_mode
from avalanche_proxyfda.models.text_key import name_of, text_key
from avalanche_proxyfda.models.text_tokens import text_tokens

MOST = 64
"""Sets of classes whose features a process keeps; the least recently used go first."""
_AT_ONCE = 10  # classes in a forward, open_clip's default
_log = logging.getLogger(__name__)
_kept: OrderedDict[str, Tensor] = OrderedDict()  # open_clip's [D, C], on the CPU


def text_features(
    clip: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    classes: Sequence[str],
    templates: Sequence[str],
    device: torch.device,
    cache_dir: Path | None = None,
) -> Tensor:
    """Return the class embeddings [C, D] of open_clip's ``build_zero_shot_classifier``.

    They are kept in the process, and in ``cache_dir`` as ``texts-<hash>.safetensors``, under a
    hash of the text tower, the token ids, the class names, the templates, and the kernels.

    Args:
        clip: an open_clip model. Neither its modes nor the places of its weights change.
        tokenizer: the model's tokenizer.
        classes: class names, in order of label.
        templates: prompts with ``{}`` in the place of the name.
        device: device that computes the features. If the text tower is elsewhere, a copy of it
            computes them.
        cache_dir: folder of files, which is made if it is missing; None keeps none. A file that
            is damaged or has another key is ignored with a warning, and written again.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if a prompt is longer than the context of the text tower.
    """
    prompts = [
        [
            template.format(name)
            for name in classes[first : first + _AT_ONCE]
            for template in templates
        ]
        for first in range(0, len(classes), _AT_ONCE)
    ]
    tokens = [text_tokens(tokenizer, batch) for batch in prompts]
    key = text_key(clip, tokens, classes, templates, device)
    name = name_of(key)
    file = None if cache_dir is None else cache_dir / f"texts-{name}.safetensors"
    features = _kept.get(name)
    if features is None and file is not None:
        features = _read(file, key)
    if features is None:
        features = _computed(clip, tokens, classes, templates, device).cpu().contiguous()
    if file is not None and not file.exists():
        _write(file, key, features)
    _kept[name] = features
    _kept.move_to_end(name)
    while len(_kept) > MOST:
        _kept.popitem(last=False)
    return features.to(device, copy=True).T


def _computed(
    clip: nn.Module,
    tokens: list[Tensor],
    classes: Sequence[str],
    templates: Sequence[str],
    device: torch.device,
) -> Tensor:
    """Return open_clip's matrix of the embeddings, [D, C]."""
    from open_clip import build_zero_shot_classifier

    visual = getattr(clip, "visual", None)
    own = [t for n, t in clip.named_parameters() if not n.startswith("visual.")]
    tower = clip
    here = torch.empty(0, device=device).device  # with an index, as the devices of tensors
    if any(tensor.device != here for tensor in own):
        # the image tower is not copied
        tower = copy.deepcopy(clip, {id(visual): None}).to(device)
    batches = iter(tokens)
    with in_eval_mode(tower):
        features: Tensor = build_zero_shot_classifier(
            tower,
            lambda texts: next(batches),
            list(classes),
            list(templates),
            num_classes_per_batch=_AT_ONCE,
            device=device,
        )
    return features


def _write(file: Path, key: dict[str, Any], features: Tensor) -> None:
    about = json.dumps({"key": key, "sha256": _hash(features)}, sort_keys=True)
    write_bytes(file, save({"features": features}, {"about": about}))


def _read(file: Path, key: dict[str, Any]) -> Tensor | None:
    """Return the features of a file; None without a file that fits the key."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads((opened.metadata() or {})["about"])
            features = opened.get_tensor("features")
        if about != {"key": key, "sha256": _hash(features)}:
            raise ValueError("its key or its hash differs")
    except (SafetensorError, OSError, ValueError, LookupError) as error:
        _log.warning("%s is not used, and its features are computed again: %s", file, error)
        file.unlink(missing_ok=True)
        return None
    columns: Tensor = features
    return columns


def _hash(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
