"""Lets every terminal, file and pipe take every character that is printed."""

from __future__ import annotations

import io
import sys


def print_every_character() -> None:
    r"""Escape what the encoding of the standard output or error lacks, such as ``\u03bb`` for λ.

    The encoding stays the locale's; cp1252 and ASCII lack λ. Every ``python -m`` command and
    every worker process calls this function before it prints.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None without a console; others are the caller's
            stream.reconfigure(errors="backslashreplace")
