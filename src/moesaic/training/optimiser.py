"""Which weights decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The learned parameters in two groups for an optimiser: kernels and matrices decay, the rest does not.

    Norms, activations and biases do not decay; the biases of experts have two axes, so the name tells.
    """
    learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    plain = [parameter for name, parameter in learned if parameter.ndim < 2 or name.endswith("bias")]
    shrunk = [parameter for name, parameter in learned if not (parameter.ndim < 2 or name.endswith("bias"))]
    return [{"params": shrunk, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def learned(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
