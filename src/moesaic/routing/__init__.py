"""Experts chosen by a learned gate: shared by the restoration, upscaling and segmentation networks."""

from moesaic.routing.balance import Balance
from moesaic.routing.collect import balance_loss, collect, recording, routed_layers
from moesaic.routing.convert import sparsify
from moesaic.routing.dispatch import dispatch, gather, merged, reference
from moesaic.routing.experts import ConvExperts, ModuleExperts
from moesaic.routing.gate import GATES, Gate, make_gate
from moesaic.routing.layer import RoutedConv2d, RoutedExperts, RoutedLayer, RoutedLinear
from moesaic.routing.record import Routing

__all__ = [
    "GATES",
    "Balance",
    "ConvExperts",
    "Gate",
    "ModuleExperts",
    "RoutedConv2d",
    "RoutedExperts",
    "RoutedLayer",
    "RoutedLinear",
    "Routing",
    "balance_loss",
    "collect",
    "dispatch",
    "gather",
    "make_gate",
    "merged",
    "recording",
    "reference",
    "routed_layers",
    "sparsify",
]
