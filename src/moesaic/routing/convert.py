"""sparsify(): turn convolutions or linear layers of any torch model into routed experts."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize

from moesaic.errors import ArgumentError
from moesaic.memory import within_memory
from moesaic.routing.balance import Balance
from moesaic.routing.choice import MOST_EXPERTS, whole
from moesaic.routing.dispatch import How
from moesaic.routing.experts import ConvExperts
from moesaic.routing.gate import make_gate
from moesaic.routing.grid import read_grid
from moesaic.routing.layer import RoutedConv2d, RoutedLayer, RoutedLinear
from moesaic.values import is_a, is_number, is_table, is_whole

Where = str | Iterable[str] | Callable[[str, nn.Module], bool]


def sparsify(
    model: nn.Module,
    where: Where,
    experts: int = 8,
    k: int = 2,
    grid: int | tuple[int, int] = 3,
    *,
    gate: str = "two_conv",
    gate_options: Mapping[str, Any] | None = None,
    balance: str = "switch",
    balance_weight: float = 0.01,
    initial: Literal["copy", "fresh"] = "copy",
    jitter: float = 0.0,
    how: How = "auto",
    seed: int = 0,
    inplace: bool = False,
) -> nn.Module:
    """A model in which chosen convolutions and linear layers are routed: k of `experts` act at each place of a grid.

    Each expert begins as a copy of the trained layer. As weights of chosen experts sum to 1, the output is unchanged at
    the start, whatever the gate decides; training makes the experts differ. The patches of a convolution see their true
    neighbours as far as kernel size and dilation reach, and a grid that does not divide the map makes patches that
    differ by a pixel.

    The method is PatchConvMoE's (arXiv 2604.13761); starting from copies is sparse upcycling (Komatsuzaki et al. 2022,
    arXiv 2212.05055).

    Args:
        model: any torch model; left alone unless `inplace`.
        where: which layers: a name as in `model.named_modules()`, a pattern with * and ?, several of these, or a
            function of name and module that says whether to convert.
        experts: how many experts each layer gets.
        k: how many act at a place.
        grid: rows and columns of places, one number or two. A linear layer over (B, T, C) cuts its tokens into rows x
            columns runs, one over (B, C) needs a grid of 1.
        gate: "two_conv", "conv", "linear", "frequency", "score", or a control: "uniform", "random", "position",
            "frozen".
        gate_options: passed to the gate, such as {"noise": 0.1}; its experts, k and grid are those of the layer.
        balance: the balance loss that `balance_loss(model)` sums, or "none".
        balance_weight: its factor.
        initial: "copy" of the trained weights, or "fresh" ones, each expert drawn for itself, for training from
            scratch.
        jitter: normal noise added to all copies but the first, as a share of the standard deviation of the layer's
            weights; the output then changes.
        how: the form of dispatch, see `dispatch`.
        seed: of gates, fresh weights and jitter. Torch's global generator is left as it was.
        inplace: convert `model` itself.

    Returns:
        The converted model; a new layer where `model` itself is the layer that `where` names as "".

    Raises:
        ArgumentError: no layer of that name or pattern, a layer that cannot be converted, or k, grid, gate or another
            option outside its values.
        LimitError: there is not enough memory for so many experts.
    """
    if not is_a(model, nn.Module):
        raise ArgumentError(f"model is a torch module, not {type(model).__name__}")
    if initial not in ("copy", "fresh"):
        raise ArgumentError(f"initial is 'copy' or 'fresh', not {initial!r}")
    if not is_number(jitter) or not 0 <= jitter < float("inf"):
        raise ArgumentError(f"jitter is a share from 0 up, not {jitter!r}")
    if not is_whole(seed, -(2**63), 2**64 - 1):
        raise ArgumentError(f"seed is a whole number of at most 64 bits, not {seed!r}")
    shape, experts = read_grid(grid), whole("experts", experts, MOST_EXPERTS)
    chooser_options = _gate_options(gate_options)
    if not inplace:
        model = copy.deepcopy(model)
    layers = dict(model.named_modules(remove_duplicate=False))
    objection = objections(layers)
    names = names_of(layers, where, objection)
    for name in names:  # all are looked at before the first is replaced
        refuse(name, layers[name], objection)
    made: dict[int, RoutedLayer] = {}  # a layer that is used in several places stays one layer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in names:
            old = cast("nn.Conv2d | nn.Linear", layers[name])
            if id(old) not in made:
                with within_memory(f"{experts} experts of the layer {name!r}; lower experts"):
                    bank = _bank(old, experts, initial, jitter)
                options: dict[str, Any] = {
                    "balance": Balance(balance, balance_weight),
                    "how": how,
                }
                chooser = make_gate(gate, bank.inputs, experts, k, grid=shape, **chooser_options)
                kind = RoutedLinear if isinstance(old, nn.Linear) else RoutedConv2d
                new = kind(bank, chooser.to(bank.weight.device), shape, **options)
                made[id(old)] = new.train(old.training)
    for name in [name for name, layer in layers.items() if id(layer) in made]:
        if name == "":
            return made[id(layers[name])]
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made[id(layers[name])])
    return model


def _gate_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The gate's own options, of those that a caller handed on to it.

    Raises:
        ArgumentError: they are no table of names, or name what the layer decides.
    """
    if options is not None and not is_table(options):
        raise ArgumentError(f'gate_options is a table of names such as {{"noise": 0.1}}, not {options!r}')
    if taken := [name for name in ("grid", "experts", "k", "channels", "name") if name in (options or {})]:
        raise ArgumentError(
            f"gate_options holds {', '.join(taken)}, which the layer decides: state grid, experts, k and gate beside it"
        )
    return dict(options or {})


def names_of(
    layers: Mapping[str, nn.Module],
    where: Where,
    objection: Callable[[nn.Module], str | None] | None = None,
) -> list[str]:
    """The names of the layers that `where` means, as `sparsify` reads it.

    A pattern finds only layers that can be converted; what a name or a function chooses is not looked at.

    Args:
        layers: all modules of a model by name.
        where: a name, a pattern, several of these, or a function.
        objection: why a layer cannot be converted, or None where it can; that of `sparsify` unless given.

    Raises:
        ArgumentError: `where` means no layer, or is none of these.
    """
    if callable(where):
        names = [name for name, layer in layers.items() if where(name, layer)]
        if not names:
            raise ArgumentError("where chose no layer: it returned False for each of the model's modules")
        return names
    given: Any = [where] if isinstance(where, str) else tuple(where) if hasattr(where, "__iter__") else ()
    patterns = [item for item in given if isinstance(item, str)]
    if not patterns or len(patterns) < len(given):
        raise ArgumentError(f"where is a layer's name, a pattern, several of these, or a function, not {where!r}")
    able = [name for name, layer in layers.items() if (objection or objection_to)(layer) is None]
    names = []
    for pattern in patterns:
        found = [pattern] if pattern in layers else [name for name in able if fnmatchcase(name, pattern)]
        if not found:
            raise ArgumentError(f"where={pattern!r} names no layer of this model; {_suggestion(pattern, able)}")
        names += found
    return list(dict.fromkeys(names))


def _suggestion(pattern: str, able: list[str]) -> str:
    if not able:
        return "it has no convolution or linear layer that can be converted"
    close = difflib.get_close_matches(pattern, able, n=3, cutoff=0.5) or able[-3:]
    return f"it has {len(able)} that can be converted, such as {', '.join(map(repr, close))}"


def refuse(name: str, layer: nn.Module, objection: Callable[[nn.Module], str | None] | None = None) -> None:
    """Stop at a layer that cannot be converted.

    Raises:
        ArgumentError: with the objection to it.
    """
    if reason := (objection or objection_to)(layer):
        raise ArgumentError(f"where={name!r} cannot be converted: {reason}")


def objections(
    layers: Mapping[str, nn.Module], own: Callable[[nn.Module], str | None] | None = None
) -> Callable[[nn.Module], str | None]:
    """What says why a layer of a model cannot be converted, or None: also what only its place in the model shows.

    Args:
        layers: all modules of the model by name.
        own: the objection to a layer for itself; that of `sparsify` unless given.
    """
    whole = (layer for layer in layers.values() if isinstance(layer, nn.TransformerEncoderLayer))
    unread = {id(part) for layer in whole for part in (layer.linear1, layer.linear2)}

    def objection(layer: nn.Module) -> str | None:
        if id(layer) in unread:
            return "torch's own TransformerEncoderLayer reads its weight itself in evaluation, without calling it"
        return (own or objection_to)(layer)

    return objection


def objection_to(layer: nn.Module) -> str | None:
    """Why a layer cannot be converted, or None."""
    if isinstance(layer, RoutedLayer):
        return "it is routed already"
    if parametrize.is_parametrized(layer):
        return "its weights are parametrised; remove the parametrisation first"
    kind = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear if isinstance(layer, nn.Linear) else None
    if kind is None:
        return f"it is a {type(layer).__name__}, and only Conv2d and Linear layers can be"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return "it has not seen its first input yet; run the model once"
    if type(layer).forward is not kind.forward:
        return f"{type(layer).__name__} computes its output in its own way"
    if isinstance(layer, NonDynamicallyQuantizableLinear):
        return "torch's own attention reads its weight itself, without calling it"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return "hooks are attached to it (weight norm is one); remove them first"
    return None


def _bank(old: nn.Conv2d | nn.Linear, experts: int, initial: str, jitter: float) -> ConvExperts:
    bias: torch.Tensor | None = old.bias  # torch's own types forget that it may be absent
    place: dict[str, Any] = {"bias": bias is not None, "device": old.weight.device, "dtype": old.weight.dtype}
    if isinstance(old, nn.Linear):
        bank = ConvExperts(experts, old.in_features, old.out_features, (1, 1), **place)
    else:
        bank = ConvExperts(
            experts,
            old.in_channels,
            old.out_channels,
            _two(old.kernel_size),
            stride=_two(old.stride),
            padding=_padding(old),
            padding_mode=old.padding_mode,
            dilation=_two(old.dilation),
            groups=old.groups,
            **place,
        )
    if initial == "copy":
        with torch.no_grad():
            bank.kernels.copy_(old.weight.reshape(bank.kernels.shape[1:]))
            if bank.bias is not None and bias is not None:
                bank.bias.copy_(bias)
            if jitter and experts > 1:
                noise = torch.randn(bank.kernels[1:].shape, dtype=torch.float32).to(bank.weight)
                bank.kernels[1:] += jitter * old.weight.std() * noise
    bank.weight.requires_grad_(old.weight.requires_grad)
    if bank.bias is not None and bias is not None:
        bank.bias.requires_grad_(bias.requires_grad)
    return bank


def _two(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]


def _padding(layer: nn.Conv2d) -> tuple[int, int, int, int]:  # top, bottom, left, right
    if layer.padding == "valid":
        return (0, 0, 0, 0)
    if layer.padding == "same":  # an even kernel is padded by one pixel more at the end, as torch does
        sums = [d * (n - 1) for d, n in zip(layer.dilation, layer.kernel_size, strict=True)]
        return (sums[0] // 2, sums[0] - sums[0] // 2, sums[1] // 2, sums[1] - sums[1] // 2)
    rows, columns = cast("tuple[int, int]", layer.padding)
    return (rows, rows, columns, columns)
