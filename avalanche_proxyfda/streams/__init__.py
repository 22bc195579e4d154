"""Streams of experiences for any Avalanche strategy.

:func:`split_imagenet_r` splits ImageNet-R by class. :func:`dataset_sequence` has one experience
for each data set. :func:`mtil_set` loads a data set with the splits of MTIL.
``avalanche_proxyfda.streams.files`` reads the data sets.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
