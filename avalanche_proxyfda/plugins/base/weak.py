"""A method of an object, for a part of the object: the part does not keep its owner alive."""

from __future__ import annotations

import weakref
from typing import Any


class WeakMethod:
    """Calls a method of ``owner``, which it does not keep alive.

    An owner whose part holds a bound method of the owner is freed by the garbage collector
    alone, with everything it holds. Copies and pickles of the owner get a method of the copy.

    Args:
        owner: the object.
        name: name of the method.

    Raises:
        ReferenceError: in a call after the owner is gone.

    Example:
        >>> from avalanche_proxyfda.plugins.base.weak import WeakMethod
        >>> class Owner:
        ...     def ask(self):
        ...         return 1
        >>> owner = Owner()
        >>> ask = WeakMethod(owner, "ask")
        >>> ask()
        1
        >>> del owner
        >>> ask()
        Traceback (most recent call last):
        ReferenceError: the owner of 'ask' is gone
    """

    def __init__(self, owner: object, name: str) -> None:
        self._owner, self._name = weakref.ref(owner), name

    def __call__(self, *given: Any) -> Any:
        """Call the method."""
        return getattr(self._alive(), self._name)(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._alive(), self._name)

    def _alive(self) -> object:
        owner = self._owner()
        if owner is None:
            raise ReferenceError(f"the owner of {self._name!r} is gone")
        return owner
