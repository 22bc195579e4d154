"""Parts that turn autocast off run on a device for which torch has no autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avalanche_proxyfda.models import TextTower, trained_text_head
from avalanche_proxyfda.pixels import Finish
from tests.models.small_texts import NAMES, PROMPTS, small_clip, tokenize


@pytest.fixture
def lacking(second: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Return the device, for which ``torch.autocast`` raises as for an unknown type."""

    def refuse(kind: str, *given: Any, **options: Any) -> Any:
        raise RuntimeError(f"User specified an unsupported autocast device_type '{kind}'")

    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: False)
    monkeypatch.setattr(torch, "autocast", refuse)
    return second


def test_crops_are_finished(lacking: torch.device) -> None:
    finish = Finish(2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    white = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8).to(lacking)
    box = torch.tensor([[0, 0, 4, 4, 0]], dtype=torch.int32).to(lacking)
    assert torch.equal(finish(white, box).cpu(), torch.ones(1, 3, 2, 2))


def test_trained_texts_are_evaluated(lacking: torch.device) -> None:
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    logits = []
    for place in (torch.device("cpu"), lacking):
        text = TextTower(small_clip())
        head = trained_text_head(text, tokenize, NAMES, PROMPTS).eval()
        text.to(place)
        head.to(place)
        logits.append(head(rows.to(place)).detach().cpu())
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-3)
