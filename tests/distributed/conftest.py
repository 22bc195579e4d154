"""One pool of ranks for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.distributed.pool import Pool


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory, forks: Any) -> Iterator[Pool]:
    made = Pool(3, tmp_path_factory.mktemp("stores"), forks)
    yield made
    made.close()
