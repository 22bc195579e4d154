"""An extension of griffe, which reads the docstrings for the reference."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Docstrings(Extension):  # type: ignore[misc]
    """Shows examples and indented formulas of docstrings as code.

    The section ``Example:`` is read as ``Examples:``, and the two colons before an indented block
    become one.
    """

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None:
            value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"::(?=\n\n? {4})", ":", value)
