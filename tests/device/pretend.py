"""A make-believe GPU: tensors that say they are on cuda:0 and hold CPU memory.

Device rules are CUDA's: operands on different devices are refused, where CUDA refuses them. Whatever would make the
host wait for the device is counted in `EVENTS`: ``wait`` (a number is read, a shape depends on values), ``copy`` (to or
from memory that is not page-locked), and, which cost nothing, ``async`` and ``staged`` (of at most 64 KiB from ordinary
memory, asked not to wait: CUDA puts them aside). A copy to the host that nobody has waited for
holds NaN until an event recorded behind it is waited for.
"""

import collections
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
_STAGED_BYTES = 64 << 10
HALVES = (torch.float16, torch.bfloat16)
EVENTS: collections.Counter[tuple[str, str, str]] = collections.Counter()  # (kind, operator, place)
STEPS: list[collections.Counter[tuple[str, str, str]]] = []  # `EVENTS` as they were when each training step began
_ON_ITS_WAY: list[tuple[torch.Tensor, torch.Tensor]] = []  # (what the host holds, what will be there)

_READS_VALUES = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.unique_consecutive.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.bincount.default,
    aten.equal.default,
    aten.repeat_interleave.Tensor,
}
_PRODUCTS = {
    aten.convolution.default,
    aten.convolution_backward.default,
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
}
_INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
# a CPU number may stand beside CUDA tensors in elementwise operators only
_NO_CPU_NUMBERS = (
    aten.stack,
    aten.cat,
    aten.mm,
    aten.matmul,
    aten.gather,
    aten.scatter,
    aten.index_add,
    aten.scatter_add,
    aten.lerp,
)


class DeviceMismatch(RuntimeError):
    """Two devices in one operator."""


class PretendCuda(torch.Tensor):
    """A tensor on cuda:0; its numbers are in ``inner``."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor, requires_grad: bool = False) -> "PretendCuda":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=CUDA,
            requires_grad=requires_grad,
        )

    def __init__(self, inner: torch.Tensor, requires_grad: bool = False) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"PretendCuda({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], meta: Any, size: Any, stride: Any) -> "PretendCuda":
        return PretendCuda(inner["inner"])


class Mode(TorchDispatchMode):
    """Sees operators that make tensors on the device out of nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def is_mine(value: Any) -> bool:
    return isinstance(value, PretendCuda)


def unwrap(value: Any) -> Any:
    return value.inner if is_mine(value) else value


def place() -> str:
    """Return the innermost line of al_lab that is at work, else of Lightning or torch."""
    frame, other = sys._getframe(2), "?"
    while frame is not None:
        name = frame.f_code.co_filename
        if "/al_lab/" in name and "site-packages" not in name:
            mine = f"{name.split('/al_lab/')[-1]}:{frame.f_lineno}"
            return f"{mine} < {other}" if mine.startswith("learners/trainer.py") else mine
        if other == "?" and any(part in name for part in ("lightning", "mmdet", "torch/optim", "grad_scaler")):
            other = f"{name.split('site-packages/')[-1]}:{frame.f_lineno}"
        frame = frame.f_back
    return other


def note(kind: str, what: Any) -> None:
    """Count one event; whoever waits, waits for every copy that is on its way."""
    EVENTS[kind, str(what).replace("aten.", ""), place()] += 1
    if kind in ("wait", "copy"):
        arrive(on_its_way())


def on_its_way() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(_ON_ITS_WAY)


def arrive(copies: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Let copies to the host arrive."""
    for copy in copies:
        held, value = copy
        held.copy_(value)
    left = [c for c in _ON_ITS_WAY if not any(c[0] is done[0] for done in copies)]
    _ON_ITS_WAY[:] = left


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operator."""
    flat, _ = tree_flatten((args, kwargs))
    mine = [x for x in flat if is_mine(x)]
    device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    if not mine and (device is None or device.type != "cuda"):
        return func(*args, **kwargs)
    if func is not aten._to_copy.default and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    ):
        with Mode():
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise DeviceMismatch(f"{func}: expected a cuda generator, got cpu, at {place()}")
    _refuse_mixtures(func, args, [x for x in flat if isinstance(x, torch.Tensor) and not is_mine(x)], mine)
    _count(func, args, kwargs, device)
    out = _compute(func, *_on_cpu(args, kwargs, device))
    return _placed(func, args, kwargs, device, mine, out)


def _refuse_mixtures(func: Any, args: Any, plain: list[torch.Tensor], mine: list[Any]) -> None:
    if func in (aten.copy_.default, aten._to_copy.default):
        return
    if func in _INDEXING:
        base, index = args[0], [i for i in args[1] if i is not None]
        value = None if func is aten.index.Tensor or len(args) < 3 else args[2]
        if not is_mine(base) and any(is_mine(i) for i in index):
            raise DeviceMismatch(f"{func}: indices on cuda, the indexed tensor on cpu, at {place()}")
        if isinstance(value, torch.Tensor) and not is_mine(value) and value.dim() > 0:
            raise DeviceMismatch(f"{func}: value on cpu, the indexed tensor on cuda, at {place()}")
    elif plain and mine:
        shapes = [tuple(p.shape) for p in plain if p.dim() > 0]
        if shapes:
            raise DeviceMismatch(f"{func}: cuda:0 and cpu {shapes} at {place()}")
        if func.overloadpacket in _NO_CPU_NUMBERS:
            raise DeviceMismatch(f"{func}: a number on cpu beside tensors on cuda, at {place()}")
        if not is_mine(args[0]) and isinstance(args[0], torch.Tensor) and func._schema.name.endswith("_"):
            raise DeviceMismatch(f"{func}: in place on cpu with an operand on cuda, at {place()}")


def _count(func: Any, args: Any, kwargs: dict[str, Any], device: torch.device | None) -> None:
    if func is aten._to_copy.default:
        if is_mine(args[0]) and device is not None and device.type == "cpu":
            note("async" if kwargs.get("non_blocking") else "wait", func)
        elif not is_mine(args[0]):
            _count_upload(func, args[0], bool(kwargs.get("non_blocking")))
    elif func is aten.copy_.default and is_mine(args[0]) and not is_mine(args[1]):
        _count_upload(func, args[1], len(args) > 2 and bool(args[2]))
    elif func is aten.copy_.default and not is_mine(args[0]):
        note("wait", func)
    elif func in _INDEXING:
        index = [i for i in args[1] if isinstance(i, torch.Tensor)]
        if any(not is_mine(i) for i in index):
            note("copy", f"{func} with an index on the cpu")
        is_fill = func is not aten.index.Tensor and isinstance(args[2], torch.Tensor) and args[2].dim() == 0
        if any(i.dtype in (torch.bool, torch.uint8) for i in index) and not is_fill:
            note("wait", f"{func} with a mask")
    elif func in _READS_VALUES or func.name() == "torchvision::nms":
        note("wait", func)


def _count_upload(func: Any, source: torch.Tensor, non_blocking: bool) -> None:
    is_pinned = getattr(source, "is_page_locked", False) or getattr(source._base, "is_page_locked", False)
    is_small = source.numel() * source.element_size() <= _STAGED_BYTES
    note("copy" if not non_blocking else "async" if is_pinned else "staged" if is_small else "copy", func)


def _on_cpu(args: Any, kwargs: dict[str, Any], device: torch.device | None) -> tuple[Any, dict[str, Any]]:
    args, kwargs = tree_map(unwrap, (args, kwargs))
    if device is not None and device.type == "cuda":
        kwargs = {**kwargs, "device": torch.device("cpu")}
    return args, {**kwargs, "pin_memory": False} if kwargs.get("pin_memory") else kwargs


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run on the CPU, which lacks some of CUDA's kernels for half precision and is a hundred times slower in others."""
    after = None
    if func in (aten._softmax.default, aten._log_softmax.default) and args[2]:
        args = (args[0].float(), args[1], False)
    if func in (aten._softmax_backward_data.default, aten._log_softmax_backward_data.default):
        after = args[3] if args[3] != args[0].dtype else None
        args = (*args[:3], args[0].dtype)
    half = next((x.dtype for x in tree_flatten((args, kwargs))[0] if getattr(x, "dtype", None) in HALVES), None)
    try:
        out = _in_float32(func, args, kwargs, half) if half and func in _PRODUCTS else func(*args, **kwargs)
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented for 'Half'" not in str(error) and "not implemented for 'BFloat16'" not in str(error):
            raise
        out = _in_float32(func, args, kwargs, half)
    return out if after is None else out.to(after)


def _in_float32(func: Any, args: Any, kwargs: dict[str, Any], half: Any) -> Any:
    """Compute in float32 and round what comes out, as a card's matrix units do."""
    args, kwargs = tree_map(_cast(HALVES, torch.float32), (args, kwargs))
    return tree_map(_cast((torch.float32,), half), func(*args, **kwargs))


def _cast(sources: tuple[torch.dtype, ...], target: torch.dtype) -> Callable[[Any], Any]:
    return lambda x: x.to(target) if isinstance(x, torch.Tensor) and x.dtype in sources else x


def _placed(
    func: Any, args: Any, kwargs: dict[str, Any], device: torch.device | None, mine: list[Any], out: Any
) -> Any:
    """Return the result on the device it belongs to."""
    if func is aten._local_scalar_dense.default:
        return out
    if func is aten._to_copy.default and device is not None and device.type == "cpu":
        return _later(out) if kwargs.get("non_blocking") else out
    if func is aten.copy_.default and not is_mine(args[0]):
        return args[0]
    wrapped = tree_map(lambda x: PretendCuda(x) if isinstance(x, torch.Tensor) and not is_mine(x) else x, out)
    returns = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
    if not mine or not returns:
        return wrapped
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _later(value: torch.Tensor) -> torch.Tensor:
    held = torch.full_like(value, float("nan") if value.is_floating_point() else 0)
    _ON_ITS_WAY.append((held, value))
    return held
