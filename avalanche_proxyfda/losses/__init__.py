"""Losses on tensors, one module a method; the modules import torch alone."""

from avalanche_proxyfda.losses.distillation import DistillationLoss
from avalanche_proxyfda.losses.dive import DiVELoss
from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.losses.l2sp import L2SPLoss
from avalanche_proxyfda.losses.ldifs import LDIFSLoss
from avalanche_proxyfda.losses.lipsum import LipsumFTLoss
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from avalanche_proxyfda.losses.pkt import PKTLoss
from avalanche_proxyfda.losses.proxies import ProxyGenerator
from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss, ProxyFDATerms
from avalanche_proxyfda.losses.rift import RIFTLoss
from avalanche_proxyfda.losses.rkd import RKDLoss
from avalanche_proxyfda.losses.snd import SNDLoss
from avalanche_proxyfda.losses.soft_fda import SoftFDALoss
from avalanche_proxyfda.losses.soft_proxy_fda import SoftProxyFDALoss
from avalanche_proxyfda.losses.zscl import ZSCLLoss

__all__ = [
    "DiVELoss",
    "DistillationLoss",
    "FDALoss",
    "L2SPLoss",
    "LDIFSLoss",
    "LipsumFTLoss",
    "NeighborGraph",
    "PKTLoss",
    "ProxyFDALoss",
    "ProxyFDATerms",
    "ProxyGenerator",
    "RIFTLoss",
    "RKDLoss",
    "SNDLoss",
    "SoftFDALoss",
    "SoftProxyFDALoss",
    "ZSCLLoss",
]
