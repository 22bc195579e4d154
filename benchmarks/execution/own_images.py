"""The images of ``--data``, read once before the first run."""

from __future__ import annotations

from benchmarks.config import Config
from benchmarks.execution.plan import caught_notices, print_notices
from benchmarks.streams.registry import scan_images


def check_images(config: Config) -> None:
    """Read every image once, if broken images are not left out, so that a run cannot stop at one.

    Before the error, what the data sets leave out is printed.

    Raises:
        ValueError: if an image is broken; the message names the file and the remedies.
    """
    if getattr(config.stream, "on_corrupt", "drop") == "drop":
        return
    notices: list[str] = []
    with caught_notices(notices):
        _, broken = scan_images(config)
    if broken:
        print_notices(notices)  # the plan, which prints them otherwise, is not reached
        first, more = next(iter(broken.values())), len(broken) - 1
        others = f"{more} more images are broken: --scan lists them all"
        raise ValueError(
            f"{first} ({others if more else 'the only broken image that --scan lists'}); "
            "remove or replace the file, or leave broken images out with --on-corrupt drop"
        )
