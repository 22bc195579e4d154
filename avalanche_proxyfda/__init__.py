"""Fine-tune pre-trained vision models, task after task, without forgetting.

Public names are listed in ``__init__.pyi`` and imported at their first use, so importing a loss or
the sampler loads torch and not Avalanche.
"""

import lazy_loader

from avalanche_proxyfda._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
