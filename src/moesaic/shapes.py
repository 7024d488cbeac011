"""A network as shapes alone: nothing is allocated for it, and no numbers are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Network = TypeVar("Network", bound=nn.Module)


def as_shapes(build: Callable[[], Network]) -> Network:
    """What `build` makes, on the device "meta"; whatever `build` raises."""
    with torch.device("meta"), _Unfilled():
        return build()


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills a tensor with its first numbers.

    On the device "meta" torch goes a long way to draw numbers that nobody sees: it loads its compiler for some of them,
    which takes seconds at the start of a command.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else named["tensor"]
        if func in (torch.rand, torch.randn):
            named.pop("generator", None)
            return torch.empty(*args, **named)
        return func(*args, **named)
