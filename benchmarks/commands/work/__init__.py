"""The work of the commands, one file a command; ``__init__.pyi`` lists it.

A command checks its options and its configurations first. It takes its work from here afterwards,
and torch and Avalanche are imported then.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
