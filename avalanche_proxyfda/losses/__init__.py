"""Pure tensor losses; importing them needs torch and nothing else."""

from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from avalanche_proxyfda.losses.proxies import ProxyGenerator
from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss, ProxyFDATerms

__all__ = ["FDALoss", "NeighborGraph", "ProxyFDALoss", "ProxyFDATerms", "ProxyGenerator"]
