"""How unsure a mixture is of the class and the place of each detection."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from al_lab.acquisition.boxes.mixture import mixture_uncertainty
from al_lab.learners.readouts.look import Look
from al_lab.models.detectors.branches.mixture import MixtureBranch


def box_mixture(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``box_mixture`` (D, 4) float32 of each image: of each detection the uncertainty of class and place.

    Aleatoric and epistemic of its class (the latter of probabilities), aleatoric and epistemic of its coordinates, of
    which the worst counts.
    """
    branch = look.network.branch("mixture")
    assert isinstance(branch, MixtureBranch)
    device, sizes = look.head.logits.device, [len(found) for found in look.detections]
    image = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    anchor, label = (
        torch.from_numpy(np.concatenate([np.asarray(getattr(found, name), np.int64) for found in look.detections]))
        for name in ("anchor", "labels")
    )
    at = branch.read(look.head.extra, (image.to(device), anchor.to(device)))
    column = (label.to(device) + 1)[:, None, None].expand(-1, branch.components, 1)  # background is column 0
    probs, variance = (v.gather(-1, column).squeeze(-1) for v in (at.class_mean.softmax(-1), at.class_variance))
    of_class = mixture_uncertainty(at.class_weight, probs, variance)
    of_box = mixture_uncertainty(at.box_weight, at.box_mean, at.box_variance)
    values = torch.stack([*of_class, *(v.amax(-1) for v in of_box)], dim=1)
    return [{"box_mixture": rows.numpy()} for rows in values.cpu().split(sizes)]
