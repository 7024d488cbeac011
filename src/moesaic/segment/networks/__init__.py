"""Six segmentation networks, and `make_network`, which builds them dense or with a patch mixture."""

from moesaic.segment.networks.deeplab import DeepLab, deeplab
from moesaic.segment.networks.enet import ENet, enet
from moesaic.segment.networks.erfnet import ERFNet, erfnet
from moesaic.segment.networks.lraspp import LRASPP, lraspp
from moesaic.segment.networks.make import NETWORKS, make_network
from moesaic.segment.networks.network import SegmentationNetwork
from moesaic.segment.networks.pspnet import PSPNet, pspnet
from moesaic.segment.networks.unet import UNet, unet

__all__ = [
    "LRASPP",
    "NETWORKS",
    "DeepLab",
    "ENet",
    "ERFNet",
    "PSPNet",
    "SegmentationNetwork",
    "UNet",
    "deeplab",
    "enet",
    "erfnet",
    "lraspp",
    "make_network",
    "pspnet",
    "unet",
]
