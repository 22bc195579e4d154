"""Avalanche plugins, one module a method."""

from avalanche_proxyfda.plugins.digrap import DiGraPPlugin
from avalanche_proxyfda.plugins.fda import FDAPlugin
from avalanche_proxyfda.plugins.l2sp import L2SPPlugin
from avalanche_proxyfda.plugins.ldifs import LDIFSPlugin
from avalanche_proxyfda.plugins.lp_ft import LPFTPlugin
from avalanche_proxyfda.plugins.lwf import LwFPlugin
from avalanche_proxyfda.plugins.proxy_fda import ProxyFDAPlugin
from avalanche_proxyfda.plugins.rift import RIFTPlugin
from avalanche_proxyfda.plugins.rkd import RKDPlugin
from avalanche_proxyfda.plugins.wise_ft import WiSEFTPlugin

__all__ = [
    "DiGraPPlugin",
    "FDAPlugin",
    "L2SPPlugin",
    "LDIFSPlugin",
    "LPFTPlugin",
    "LwFPlugin",
    "ProxyFDAPlugin",
    "RIFTPlugin",
    "RKDPlugin",
    "WiSEFTPlugin",
]
