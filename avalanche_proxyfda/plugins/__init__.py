"""Avalanche plugins, one file a method."""

from avalanche_proxyfda.plugins.fda import FDAPlugin
from avalanche_proxyfda.plugins.proxy_fda import ProxyFDAPlugin

__all__ = ["FDAPlugin", "ProxyFDAPlugin"]
