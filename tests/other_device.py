"""A second device for tests on a machine that has only a processor.

Tensors on it compute with real values, so that code that branches on data runs as usual. As on a
GPU, an operation on tensors of two devices is refused, and so is reading one as a NumPy array.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

#: Operations on other kinds of tensor are intercepted before PyTorch's own meaning of this device.
OTHER = torch.device("meta")
_CPU = torch.device("cpu")
_CROSSING = ("aten::_to_copy", "aten::copy_")  # what moves values from one device to another


class _OtherTensor(Tensor):
    """A tensor that is said to be on `OTHER`, around one of the processor."""

    inner: Tensor

    @staticmethod
    def __new__(cls: type["_OtherTensor"], inner: Tensor) -> "_OtherTensor":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=OTHER,
        )
        made.inner = inner
        return made

    def __deepcopy__(self, memo: dict[int, object]) -> Tensor:
        copied = _OtherTensor(self.inner.detach().clone()).requires_grad_(self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"other({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert a tensor of another device to numpy; use .cpu() first")

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [t for t in tensors if isinstance(t, _OtherTensor)]
    here = [t for t in tensors if not isinstance(t, _OtherTensor) and t.dim()]
    if there and here and name not in _CROSSING:
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} got two.")
    device = kwargs.get("device")
    to_other = bool(there) if device is None else device.type == OTHER.type
    if name == "aten::copy_":
        to_other = isinstance(args[0], _OtherTensor)
    inner = kwargs if device is None else kwargs | {"device": _CPU}
    given, named = tree_map_only(_OtherTensor, lambda t: t.inner, (args, inner))
    result = func(*given, **named)
    if not to_other:
        return result
    result = tree_map_only(Tensor, _OtherTensor, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if there else result


class _Factories(TorchDispatchMode):
    """Has tensors that are made on `OTHER`, or moved there, wrapped."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Literals(TorchFunctionMode):
    """``torch.tensor(values, device=OTHER)``: PyTorch would drop the values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and "device" in named:
            device = named.pop("device")
            made = func(*args, **named)
            return made if device is None else made.to(device)
        return func(*args, **named)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Within it, ``OTHER`` is a device that computes."""
    # wrapped tensors have version counters, which inference mode forbids
    without_gradients = mock.patch.object(torch._C, "_InferenceMode", lambda _: torch.no_grad())
    with without_gradients, _Literals(), _Factories():
        yield OTHER


def tensors_of(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers and plain attributes of a module and its parts, by name."""
    for place, part in module.named_modules():
        held = {**part._parameters, **part._buffers, **vars(part)}
        for name, value in held.items():
            if name not in ("_parameters", "_buffers", "_modules"):
                for leaf in tree_leaves(value):
                    if isinstance(leaf, Tensor):
                        yield f"{place}.{name}", leaf
