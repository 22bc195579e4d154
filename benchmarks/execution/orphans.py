"""Processes that end with their parent, also if the parent is killed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing import connection


def end_with_parent() -> None:
    """End this process, wherever it is, as soon as the process that started it is gone.

    A thread waits for the parent's end. In the main process nothing happens. An orphan would
    train on in the folder of the run that the same command resumes, or sleep with its memory.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)  # a thread can end its process in no other way

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
