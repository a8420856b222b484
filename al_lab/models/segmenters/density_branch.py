"""The low-dimensional branch of Density Matters.

Features of pixels, and how well each is foretold by its surroundings.
"""

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from al_lab.core.fields import at_least, one_of

Estimator = Literal["none", "maskconv3", "maskconv5", "dmc3", "dmc5"]
_MASKED = -1e4  # for -inf: its exponential is 0 in every float type, and float16 can hold it


class BranchOutput(NamedTuple):
    """What the branch says of B images.

    Attributes:
        features: F, (B, D, h, w).
        reconstruction: Fhat, of the same shape; None without an estimator.
        aux_logits: (B, C, h, w) of the auxiliary classifier.
    """

    features: Tensor
    reconstruction: Tensor | None
    aux_logits: Tensor


class DensityBranch(nn.Module):
    """Features, their reconstruction from their neighbors, and a classifier that keeps them from collapsing.

    Density Matters (arXiv 2312.09595), "Dynamic Masked Convolution" and Eq. (7), (8). Where many pixels look alike a
    pixel is easily reconstructed from its neighbors, so the error |Fhat - F|^2 tells how dense the features are there.

        F = g(X),   M = softmax(h(F) + mask),   Fhat = psi(DMC(F; M, W))

    | symbol | here | default | where |
    |---|---|---|---|
    | g | ``reduce`` | 1x1, D = 64 | "low-dimensional"; kernel and D UNSPECIFIED |
    | h | ``kernel_head`` | 3x3, ReLU, 3x3, ReLU, 1x1 to K^2 | "several convolutions"; sizes UNSPECIFIED |
    | K | in the estimator's name | 5 | Table 6 |
    | W | ``taps`` | identity + N(0, 0.01) | start UNSPECIFIED: Ft begins as an average of the neighbors |
    | psi | ``project`` | 1x1, ReLU, 1x1 | kernel size 1 only, or the center would leak |

    Estimators: ``dmcK``, dynamic masked convolution; ``maskconvK``, a convolution whose center tap is zero (Table 6;
    the same psi); ``none``, features and classifier only.

    Args:
        in_channels: X, channels of the backbone map.
        num_classes: C.
        dim: D.
        estimator: see above.

    Raises:
        ConfigError: for an unknown estimator or a dim below 1.
    """

    def __init__(self, in_channels: int, num_classes: int, dim: int = 64, estimator: Estimator = "dmc5") -> None:
        super().__init__()
        one_of(*get_args(Estimator))(estimator, "segmenter.branch.estimator")
        at_least(1)(dim, "segmenter.branch.dim", do="e.g. 64")
        self.estimator = estimator
        self.reduce = nn.Conv2d(in_channels, dim, 1)
        self.classifier = nn.Conv2d(dim, num_classes, 1)
        if estimator == "none":
            return
        kernel = int(estimator[-1])
        # A dynamic convolution's M already adds up to 1; a masked one's taps have to.
        share = 1 if estimator.startswith("dmc") else 1 / (kernel * kernel - 1)
        self.taps = nn.Parameter(
            share * (torch.eye(dim)[:, :, None, None] + 0.01 * torch.randn(dim, dim, kernel, kernel))
        )
        self.project = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(inplace=True), nn.Conv2d(dim, dim, 1))
        if estimator.startswith("dmc"):
            self.kernel_head = nn.Sequential(
                nn.Conv2d(dim, dim, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(dim, dim, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(dim, kernel * kernel, 1),
            )

    def forward(self, backbone: Tensor) -> BranchOutput:
        """Return all three of a backbone map (B, X, h, w)."""
        features = self.reduce(backbone)
        return BranchOutput(features, self.reconstruct(features), self.classifier(features))

    def freeze_unused(self, *, aux: bool, density: bool) -> None:
        """Let only those parts learn that a loss reaches.

        These are the classifier's (``aux``) and the reconstruction's (``density``).
        """
        for name, parameter in self.named_parameters():
            part = name.split(".", maxsplit=1)[0]
            parameter.requires_grad_({"reduce": aux or density, "classifier": aux}.get(part, density))

    def reconstruct(self, features: Tensor) -> Tensor | None:
        """Return Fhat of F, (B, D, h, w), without looking at F in the same place; None without an estimator."""
        if self.estimator == "none":
            return None
        if self.estimator.startswith("dmc"):
            return self.project(dynamic_convolution(features, masked_kernels(self.kernel_head(features)), self.taps))
        return self.project(masked_convolution(features, self.taps))


def masked_kernels(logits: Tensor) -> Tensor:
    """Return M, (B, K^2, h, w): the softmax over a location's K^2 weights, row by row.

    The center's is exactly 0.
    """
    center = torch.arange(logits.shape[1], device=logits.device) == logits.shape[1] // 2
    return logits.masked_fill(center[:, None, None], _MASKED).softmax(1)


def dynamic_convolution(features: Tensor, kernels: Tensor, taps: Tensor) -> Tensor:
    """Convolve with weights that every location has of its own; zero outside.

    Ft[o, i, j] = sum_{u, v} M[u, v, i, j] sum_d W[o, d, u, v] F[d, i + u, j + v],   the center (u, v) = 0 left out: its
    M is 0.

    One 1x1 convolution to O K^2 channels, then K^2 - 1 shifted products: half the time on a CPU of as many shifted
    convolutions.

    Args:
        features: F, (B, D, h, w).
        kernels: M, (B, K^2, h, w), from `masked_kernels`.
        taps: W, (O, D, K, K).
    """
    outputs, inputs, kernel, _ = taps.shape
    every = (
        F.conv2d(features.contiguous(), taps.permute(2, 3, 0, 1).reshape(-1, inputs, 1, 1))
        .unflatten(1, (kernel * kernel, outputs))
        .unbind(1)
    )
    total = None
    for tap, at_tap in enumerate(every):
        if tap == len(every) // 2:
            continue
        down, right = tap // kernel - kernel // 2, tap % kernel - kernel // 2
        part = kernels[:, tap, None] * F.pad(at_tap, (-right, right, -down, down))  # negative padding cuts off
        total = part if total is None else total + part
    assert total is not None  # kernels are 3 or 5
    return total


def masked_convolution(features: Tensor, taps: Tensor) -> Tensor:
    """Convolve (B, D, h, w) with all of (O, D, K, K) but the center tap; zero outside."""
    kernel = taps.shape[-1]
    around = torch.arange(kernel * kernel, device=taps.device).view(kernel, kernel) != kernel * kernel // 2
    return F.conv2d(features, taps * around, padding=kernel // 2)
