"""Registers the second device in a process of pytest: ``-p tests.second_device.plugin``."""

from __future__ import annotations

import pytest
import torch

from tests.second_device import collectives, device

SECOND = device.register()
COLLECTIVES = collectives.register()


@pytest.fixture
def second() -> torch.device:
    """The device, with both counts at zero and a fresh random stream."""
    torch.manual_seed(0)
    device.reset()
    return SECOND
