"""Pure tensor losses; importing them needs torch and nothing else."""

from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.losses.l2sp import l2sp
from avalanche_proxyfda.losses.ldifs import LDIFSLoss
from avalanche_proxyfda.losses.lwf import distillation
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from avalanche_proxyfda.losses.proxies import ProxyGenerator
from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss, ProxyFDATerms
from avalanche_proxyfda.losses.rift import RIFTLoss
from avalanche_proxyfda.losses.rkd import RKDLoss

__all__ = [
    "FDALoss",
    "LDIFSLoss",
    "NeighborGraph",
    "ProxyFDALoss",
    "ProxyFDATerms",
    "ProxyGenerator",
    "RIFTLoss",
    "RKDLoss",
    "distillation",
    "l2sp",
]
