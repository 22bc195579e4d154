"""A small CLIP of our own among open_clip's architectures."""

from __future__ import annotations

import json

import open_clip
import pytest


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of the architecture, which has no tag."""
    config = {
        "embed_dim": 12,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": 16,
            "head_width": 8,
            "layers": 1,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    path = tmp_path_factory.mktemp("configs") / "small-clip.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(path)
    return "small-clip"
