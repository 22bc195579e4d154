"""The kinds of streams: one module of :mod:`benchmarks.streams.kinds` a kind.

A kind is a dataclass of :mod:`benchmarks.config` and a module in ``kinds``. The module has the
kind's name, with ``_`` for ``-``, and these functions:

- ``build(config, views) -> Stream`` builds the stream of a configuration.
- ``scan(config) -> tuple[int, dict[str, str]]`` reads every image of the stream once. It
  returns the number of images, and the reason for each broken image, by place.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.config import Config
from benchmarks.config.streams import KINDS as CONFIGURED
from benchmarks.streams import kinds
from benchmarks.streams.panel import scan_panel
from benchmarks.streams.stream import Stream
from benchmarks.streams.views import Views

FUNCTIONS = ("build", "scan")
"""Functions that the module of a kind has."""


def load_kinds(package: ModuleType) -> dict[str, Any]:
    """Import the modules of ``package``; return them by kind.

    Raises:
        ImportError: if a module lacks a function of :data:`FUNCTIONS`.
    """
    modules = {}
    for entry in pkgutil.iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{entry.name}")
        missing = [name for name in FUNCTIONS if not callable(getattr(module, name, None))]
        if missing:
            raise ImportError(
                f"{module.__name__} has no function {' and no function '.join(missing)}: a kind "
                "of stream needs build(config, views) and scan(config)"
            )
        modules[entry.name.replace("_", "-")] = module
    return modules


def check_kinds(modules: Iterable[str], configured: Iterable[str]) -> None:
    """Refuse kinds with a module and no dataclass, or with a dataclass and no module.

    Args:
        modules: kinds that have a module in ``benchmarks/streams/kinds``.
        configured: kinds that have a dataclass in ``benchmarks/config/streams.py``.

    Raises:
        ImportError: names the kind and the part that is missing.
    """
    built, known = set(modules), set(configured)
    for kind in sorted(built ^ known):
        missing = (
            f"dataclass with kind: Literal[{kind!r}] in AnyStream of benchmarks/config/streams.py"
            if kind in built
            else f"module benchmarks/streams/kinds/{kind.replace('-', '_')}.py"
        )
        raise ImportError(f"the kind of stream {kind!r} has no {missing}")


KINDS = load_kinds(kinds)
check_kinds(KINDS, CONFIGURED)


def load_stream(config: Config, views: Views) -> Stream:
    """Build the stream of ``config``, with images as ``views`` show them.

    Raises:
        FileNotFoundError: if data are missing.
        ValueError: if data are refused.
    """
    stream: Stream = KINDS[config.stream.kind].build(config, views)
    return stream


def scan_images(config: Config) -> tuple[int, dict[str, str]]:
    """Read every image of the stream and the panel once.

    The stream is not built, since broken images may prevent that.

    Returns:
        The number of images, and the reason for each broken image, by place.

    Raises:
        FileNotFoundError: if data are missing.
        ValueError: if data are refused.
    """
    count, reasons = KINDS[config.stream.kind].scan(config)
    panel_count, panel_reasons = scan_panel(config)
    return count + panel_count, reasons | panel_reasons
