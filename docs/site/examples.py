"""An extension of griffe, which reads the docstrings for the reference."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):  # type: ignore[misc]
    """Reads the section ``Example:`` as ``Examples:``, so that its lines are shown as code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section in the docstring of an object."""
        if obj.docstring is not None:
            value = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", value, flags=re.MULTILINE)
