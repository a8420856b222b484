"""What the labels of an image would do to a hold-out's loss, by gradients alone: no training (beyond MGRAL).

MGRAL cites EMOC (Freytag et al., "Selecting Influential Examples: Active Learning with Expected Model Output Changes",
ECCV 2014): an example is worth what its label, whichever it turns out to be, changes in the model's output on average.
Here the output is the loss of images that are held out, and the change is that of one step of gradient descent:

    v(i) = E_{y ~ p_i} |<g_i(y), G>|,   g_i(y) = grad l(i, y),  G = the hold-out's mean gradient, both of the last layer

A step along -g_i(y) lowers the hold-out's loss by <g_i(y), G> times the rate. Where the loss is a cross-entropy the
expectation of g_i under p_i is zero, so the mean projection says nothing; its positive part, what the image gives if
its label turns out to help, is half of its absolute value.

In a detector the last layer are the convolutions that give the class logits (`AnchorDetector.class_layers`), the
labels those of the boxes it keeps, and the hold-out's loss the class loss of the campaign's supervised objective. The
logits are linear in these weights, so <g_i(y), G> = <dl/dz, u> with u the logits that the weights G give: one forward
an image, and no gradient of any.

DEVIATIONS from EMOC: a Gaussian process' closed form becomes one gradient step; the output is a loss; the mean over
hold-out images is taken before the absolute value, so that one direction is enough for a pool. Labels of an image's
boxes count as independent, and their values are added.

Shapes: A boxes, K logits of each.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from al_lab.data.loading.batch import Batch, PackedBatch
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.postprocess import kept_anchors
from al_lab.objectives.supervised import Supervised, targets_of

Direction = list[dict[str, Tensor]]  # of each class layer, name of a parameter -> its gradient


def expected_change(probs_AK: Tensor, shift_AK: Tensor) -> Tensor:
    """Return E_{y ~ p} |<dl/dz, u>| of a cross-entropy over K classes, (A,): sum_y p_y |p.u - u_y|.

    Args:
        probs_AK: class distributions p, rows sum to 1.
        shift_AK: u, what the logits z gain along a direction of the weights.
    """
    mean_A1 = (probs_AK * shift_AK).sum(-1, keepdim=True)
    return (probs_AK * (mean_A1 - shift_AK).abs()).sum(-1)


def expected_change_of_each(probs_AK: Tensor, present_AK: Tensor, absent_AK: Tensor, shift_AK: Tensor) -> Tensor:
    """Return the same (A,) of a loss that treats every class alone: sum_k p_k |l1'_k u_k| + (1 - p_k) |l0'_k u_k|.

    Args:
        probs_AK: probabilities of each class to be there.
        present_AK: derivatives l1' of the loss by the logit if the class is there.
        absent_AK: l0', if it is not.
        shift_AK: u.
    """
    slope_AK = probs_AK * present_AK.abs() + (1 - probs_AK) * absent_AK.abs()
    return (slope_AK * shift_AK.abs()).sum(-1)


def binary_slopes(probs: Tensor) -> tuple[Tensor, Tensor]:
    """Return l1' and l0' of the binary cross-entropy by the logit."""
    return probs - 1, probs


def focal_slopes(logits: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> tuple[Tensor, Tensor]:
    """Return l1' and l0' of the focal loss by the logit (Lin et al., ICCV 2017, Eq. 5)."""
    p = logits.sigmoid()
    log_p, log_q = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    present = alpha * (1 - p) ** gamma * (gamma * p * log_p - (1 - p))
    absent = (1 - alpha) * p**gamma * (p - gamma * (1 - p) * log_q)
    return present, absent


def class_gradient(
    network: AnchorDetector, batches: Iterable[Batch | PackedBatch], loss: Supervised, device: torch.device
) -> Direction:
    """Return G: the gradient of the class loss of labeled images by the weights of the class layers.

    Args:
        network: trained, in evaluation mode.
        batches: of labeled images.
        loss: gives the class loss; summed over images and divided by their positives, as in training.
        device: of the network.
    """
    layers = network.class_layers()
    weights = [{n: p.detach().clone().requires_grad_() for n, p in layer.named_parameters()} for layer in layers]
    flat = [p for of_layer in weights for p in of_layer.values()]
    total, count = [torch.zeros_like(p, dtype=torch.float64) for p in flat], 0.0
    for batch in (b.to(device) for b in batches):
        with torch.no_grad(), _inputs_of(layers) as calls:
            head = network(batch.images)
        logits = network.class_logits([functional_call(layers[k], weights[k], (x,)) for k, x in calls])
        targets = targets_of(network, head, batch.boxes, batch.labels, batch.valid_hw)
        terms = loss.terms(network, head._replace(logits=logits), targets)
        value = (terms.class_positive + terms.class_negative).sum()
        if value.requires_grad:
            total = [t + g for t, g in zip(total, torch.autograd.grad(value, flat), strict=True)]
        count += float(terms.num_positives.sum())
    mean = iter([(t / max(count, 1.0)).float().cpu() for t in total])
    return [{name: next(mean) for name in of_layer} for of_layer in weights]


def expected_changes(
    network: AnchorDetector,
    batches: Iterable[Batch | PackedBatch],
    direction: Direction,
    loss: Supervised,
    device: torch.device,
) -> Iterator[tuple[str, float]]:
    """Yield v(i) of each image: the sum over the boxes it keeps of `expected_change` along G.

    Args:
        network: trained, in evaluation mode.
        batches: of images.
        direction: what `class_gradient` returned.
        loss: gives the focal loss's numbers where classes are sigmoids.
        device: of the network.
    """
    layers = network.class_layers()
    along = [{name: value.to(device) for name, value in of_layer.items()} for of_layer in direction]
    for batch in (b.to(device) for b in batches):
        with torch.inference_mode():
            with _inputs_of(layers) as calls:
                head = network(batch.images)
            shift_BPK = network.class_logits([functional_call(layers[k], along[k], (x,)) for k, x in calls]).float()
            image, anchor = kept_anchors(head, network, batch.sizes_hw.tolist(), batch.valid_hw)
            logits_AK, shift_AK = head.logits[image, anchor].float(), shift_BPK[image, anchor]
            if network.activation == "softmax":
                change_A = expected_change(logits_AK.softmax(-1), shift_AK)
            else:
                slopes = focal_slopes(logits_AK, loss.gamma, loss.alpha)
                change_A = expected_change_of_each(logits_AK.sigmoid(), *slopes, shift_AK)
            sums = torch.zeros(len(batch), dtype=torch.float64, device=device).index_add(0, image, change_A.double())
        yield from zip(batch.sample_ids, sums.cpu().tolist(), strict=True)


@contextmanager
def _inputs_of(layers: Sequence[nn.Module]) -> Iterator[list[tuple[int, Tensor]]]:
    """Collect which layers are called, and with what, in order."""
    calls: list[tuple[int, Tensor]] = []

    def watch(k: int) -> torch.utils.hooks.RemovableHandle:
        return layers[k].register_forward_pre_hook(lambda _, inputs: calls.append((k, inputs[0])))

    handles = [watch(k) for k in range(len(layers))]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
