"""Stand-in for mmcv's compiled ops: the few our detectors need call torchvision, the others say so when called.

mmcv from a package registry comes without ``mmcv._ext``, so ``import mmdet.models`` fails. `install` puts this module
in its place before that import. A really compiled extension takes precedence.
"""

import importlib
import importlib.machinery
import importlib.util
import logging
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.core.errors import ConfigError, explain

log = logging.getLogger(__name__)
_NAME = "mmcv._ext"


class _StandIn(types.ModuleType):
    """A module whose missing ops are functions that refuse to run: mmcv looks all of them up at import."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise ConfigError(
                explain(
                    expected=f"only the mmcv ops {', '.join(sorted(_PROVIDED))}",
                    got=f"a model that calls {name!r}",
                    where=_NAME,
                    do="choose a network without it, or compile mmcv with its ops (a compiled mmcv._ext is used "
                    "when present)",
                )
            )

        missing.__name__ = name
        return missing


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy NMS; torchvision's CPU kernel knows neither half types nor mixed ones."""
    import torchvision

    boxes, scores = boxes.float(), scores.float()
    if offset:
        boxes = boxes + boxes.new_tensor([0.0, 0.0, offset, offset])
    return torchvision.ops.nms(boxes, scores, float(iou_threshold))


def _focal_parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = logits if logits.dtype == torch.float64 else logits.float()
    hit = target[:, None] == torch.arange(x.shape[1], device=x.device)
    return x, x.sigmoid(), hit


def _class_weight(weight: Tensor | None, target: Tensor) -> Tensor | float:
    return weight[target.clamp(0, weight.numel() - 1)][:, None] if weight is not None and weight.numel() else 1.0


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each (sample, class) to ``output``; targets outside 0..C-1 are background."""
    x, p, hit = _focal_parts(input, target)
    positive = -alpha * (1 - p).pow(gamma) * F.logsigmoid(x)
    negative = -(1 - alpha) * p.pow(gamma) * F.logsigmoid(-x)
    output.copy_(torch.where(hit, positive, negative) * _class_weight(weight, target))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the gradient of the forward op's sum to ``grad_input``."""
    x, p, hit = _focal_parts(input, target)
    positive = -alpha * (1 - p).pow(gamma) * (1 - p - gamma * p * F.logsigmoid(x))
    negative = -(1 - alpha) * p.pow(gamma) * (gamma * (1 - p) * F.logsigmoid(-x) - p)
    grad_input.copy_(torch.where(hit, positive, negative) * _class_weight(weight, target))


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average RoIAlign."""
    import torchvision  # registers torch.ops.torchvision

    if pool_mode != 1:
        raise ConfigError(
            explain(expected="roi_align with pool_mode='avg'", got="'max'", where=_NAME, do="compile mmcv for 'max'")
        )
    x = input.float()
    output.copy_(
        torchvision.ops.roi_align(
            x, rois.float(), (aligned_height, aligned_width), spatial_scale, int(sampling_ratio), bool(aligned)
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of `roi_align_forward`."""
    import torchvision  # noqa: F401 - registers torch.ops.torchvision

    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.float(),
            rois.float(),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            int(sampling_ratio),
            bool(aligned),
        )
    )


def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, im2col_step: int
) -> Tensor:
    """Attend to a few places of several maps: mmcv's own form in PyTorch, which needs no kernel."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    out: Tensor = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    return out


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of `ms_deform_attn_forward`, by computing it again."""
    inputs = [v.detach().requires_grad_() for v in (value, locations, weights)]
    with torch.enable_grad():
        out = ms_deform_attn_forward(inputs[0], shapes, starts, inputs[1], inputs[2], im2col_step)
    grads = torch.autograd.grad(out, inputs, grad_output)
    for into, gradient in zip((grad_value, grad_locations, grad_weights), grads, strict=True):
        into.copy_(gradient)


_PROVIDED: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        nms,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
        roi_align_forward,
        roi_align_backward,
        ms_deform_attn_forward,
        ms_deform_attn_backward,
    )
}


def install() -> bool:
    """Make ``mmcv._ext`` importable; return whether it is the compiled one.

    Call before the first import of ``mmcv.ops``, ``mmdet.models`` or ``mmseg.models``.

    Raises:
        ConfigError: if mmcv is not installed.
    """
    if _NAME in sys.modules:
        return not isinstance(sys.modules[_NAME], _StandIn)
    try:
        import mmcv
    except ImportError as error:
        raise not_installed(error) from error
    if importlib.util.find_spec(_NAME) is not None:
        try:
            importlib.import_module(_NAME)
        except ImportError as error:
            log.warning("mmcv's compiled ops don't load with this torch (%s); torchvision's are used", error)
        else:
            return True
    module = _StandIn(_NAME)
    module.__spec__ = importlib.machinery.ModuleSpec(_NAME, None)
    for name, function in _PROVIDED.items():
        setattr(module, name, function)
    sys.modules[_NAME] = module
    mmcv._ext = module
    return False


def not_installed(error: ImportError) -> ConfigError:
    """Say how to get mmcv, mmdet and mmsegmentation."""
    return ConfigError(
        explain(
            expected="mmcv, mmdet and mmsegmentation for this network",
            got=str(error),
            where="al_lab.models",
            do="install the extra 'mm' (make setup does), or choose detector=tiny (segmenter=tiny)",
        )
    )
