"""Training for active domain adaptation of segmentation: what is minimized over a batch of source and target images."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import (
    Kind,
    at_least,
    below_one,
    check_fields,
    fraction,
    list_of,
    not_negative,
    one_of,
    optional,
    positive,
)
from al_lab.models.segmenters.density_branch import DensityBranch
from al_lab.models.segmenters.segmenter import SegmenterNetwork, SegmenterOutput, upsample
from al_lab.objectives.adaptation import (
    CONSISTENCY_WEIGHT,
    NEGATIVE_WEIGHT,
    Reduction,
    boundary_consistency,
    cross_entropy,
    margin_loss,
    negative_learning,
    reconstruction_error,
    reconstruction_loss,
    source_target_sum,
)
from al_lab.objectives.ramp import Ramp

log = logging.getLogger(__name__)

Pixels = Literal["boundary", "all"]
_BRANCH = "set 'segmenter.branch={dim: 64, estimator: dmc5}'"
#: Arguments of `Adaptation` with the cross-entropies of source and bought pixels alone.
CROSS_ENTROPIES = {
    "consistency": 0.0,
    "negative": 0.0,
    "margin": 0.0,
    "aux": 0.0,
    "density": 0.0,
    "stop_gradient_step": None,
}

_RULES: dict[str, Kind[Any]] = {
    "negative_threshold": below_one,
    "density_tau": optional(positive),
    "stop_gradient_step": optional(at_least(0)),
    "source_ratio": fraction,
    "consistency_where": one_of(*get_args(Pixels)),
    "margin_reduction": one_of(*get_args(Reduction)),
}


class Seen(NamedTuple):
    """One domain's images: labels, and what network and branch say of them (logits at image size)."""

    labels: Tensor
    output: SegmenterOutput
    logits: Tensor
    features: Tensor | None = None
    reconstruction: Tensor | None = None
    aux_logits: Tensor | None = None


class Adaptation(nn.Module):
    """Cross-entropy on the source and on the target pixels bought so far, and what RIPU and Density Matters add to it.

    RIPU (Xie et al., CVPR 2022) and Density Matters (arXiv 2312.09595), whose total is

        L = CE_s + CE_t + 0.1 L_cons + L_neg + L_ML + (aux_s + aux_t) + (den_s + den_t) / 2,      s source, t target

    | term | weight | default | images | where |
    |---|---|---|---|---|
    | CE_s, CE_t | ``source_ce``, ``target_ce`` | 1, 1 | source; bought pixels of the target | RIPU's code |
    | L_cons | ``consistency`` | 0.1 | source | RIPU's configs |
    | L_neg | ``negative`` | 1 | target, every pixel | RIPU's configs |
    | L_ML, Eq. (6) | ``margin`` | 1 | source | weight UNSPECIFIED |
    | aux: cross-entropy of the branch's classifier | ``aux`` | 1 | both | weight UNSPECIFIED |
    | den, Eq. (8) | ``density`` | 1 | both, every pixel | weight UNSPECIFIED |

    A term of weight 0 is not computed; without source images (source-free) the source's terms drop out, without target
    images (training on the source alone) the target's. ``den`` of one domain alone has its full weight. Each mean is
    over the pixels of its own domain: CE_t counts as much as CE_s, however few its pixels; it is 0 while nothing is
    bought.

    Until ``stop_gradient_step`` aux and den train the backbone too (Density Matters, implementation details: 18,000 of
    40,000 steps); from that step on the branch reads it detached.

    With several devices each has its share of both domains.

    Args:
        source_ce, target_ce, consistency, negative, margin, aux, density: weights, >= 0.
        negative_threshold: a class below this probability is taken for impossible.
        negative_ramp: arguments of `Ramp`, a factor on the weight of ``negative`` over the training; None: 1.
        class_weights: of the cross-entropies, one a class in label order, >= 0; only their ratios matter. None: 1 each.
        consistency_where: ``boundary`` of the ground truth (released code) | ``all`` pixels.
        margin_reduction: ``mean_pixel_class`` | ``mean_pixel`` | ``sum``; UNSPECIFIED in the paper.
        density_tau: None: the squared error is averaged over channels; a number: summed over them and divided by it,
            Eq. (8) literally.
        stop_gradient_step: None: never.
        source_ratio: part of a batch that is source images, read by whoever makes batches; 0 is source-free, 1 source
            only.
        source_balance: source images are drawn so that rare classes come as often as frequent ones (RIPU's code); read
            there too.

    Raises:
        ConfigError: for a value out of range, no weight at all, or (with a network) a weight its branch can't serve, or
            weights of other classes than its own.
    """

    task: ClassVar[str] = "segmentation"
    source_terms: ClassVar[tuple[str, ...]] = ("source_ce", "consistency", "margin", "aux", "density")
    target_terms: ClassVar[tuple[str, ...]] = ("target_ce", "negative", "aux", "density")
    class_weights: Tensor | None

    def __init__(
        self,
        source_ce: float = 1.0,
        target_ce: float = 1.0,
        consistency: float = CONSISTENCY_WEIGHT,
        negative: float = NEGATIVE_WEIGHT,
        margin: float = 1.0,
        aux: float = 1.0,
        density: float = 1.0,
        negative_threshold: float = 0.05,
        consistency_where: Pixels = "boundary",
        margin_reduction: Reduction = "mean_pixel_class",
        density_tau: float | None = None,
        stop_gradient_step: int | None = 18000,
        source_ratio: float = 0.5,
        source_balance: bool = True,
        negative_ramp: Mapping[str, Any] | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", _class_weights(class_weights), persistent=False)
        self.negative_ramp = Ramp(**(negative_ramp or {"kind": "none"}))
        self.weights = {
            "source_ce": source_ce,
            "target_ce": target_ce,
            "consistency": consistency,
            "negative": negative,
            "margin": margin,
            "aux": aux,
            "density": density,
        }
        check_fields(self.weights, dict.fromkeys(self.weights, not_negative), "objective")
        positive(negative_threshold, "objective.negative_threshold", do="a probability")
        if not any(self.weights.values()):
            raise ConfigError(
                explain(
                    expected="a loss",
                    got="a weight of 0 for every term",
                    where="objective",
                    do="set e.g. objective.target_ce=1",
                )
            )
        check_fields(locals(), _RULES, "objective")
        self.negative_threshold, self.consistency_where, self.margin_reduction = (
            float(negative_threshold),
            consistency_where,
            margin_reduction,
        )
        self.density_tau, self.stop_gradient_step = density_tau, stop_gradient_step
        self.source_ratio, self.source_balance = float(source_ratio), bool(source_balance)

    @property
    def uses_unlabeled(self) -> bool:
        """Whether target images have a loss before anything of them is bought.

        Without one they need no place in a batch.
        """
        return self.weights["negative"] > 0 or self.weights["density"] > 0

    def attach(self, network: SegmenterNetwork) -> None:
        """Freeze what of the branch gets no loss; learners call this with the fresh network.

        Raises:
            ConfigError: for a weight that asks for what the branch doesn't have.
        """
        self._check(network)
        if network.branch is None:
            return
        aux, density = self.weights["aux"] > 0, self.weights["density"] > 0
        network.branch.freeze_unused(aux=aux, density=density)
        if not (aux or density):
            log.warning(
                "segmenter.branch has no effect on training, and its features stay random: objective.aux and "
                "objective.density are 0"
            )

    def forward(self, network: SegmenterNetwork, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """Return ``loss`` and, unweighted, its parts for one `DenseBatch`.

        Returns:
            Besides, with a density term, ``relative_error``: mean |Fhat - F|^2 / mean |F|^2, which should stay in (0,
            1): features that shrink or collapse would lower the loss too.

        Raises:
            ConfigError: if no term of this objective applies to the batch.
        """
        self._check(network)
        is_cut = self.stop_gradient_step is not None and step >= self.stop_gradient_step
        source = self._look(network, batch.source_images, batch.source_labels, self.source_terms, is_cut)
        target = self._look(network, batch.target_images, batch.target_labels, self.target_terms, is_cut)
        parts = self._of_one_domain(source, target) | self._of_the_branch(
            [seen for seen in (source, target) if seen is not None]
        )
        parts |= self.more_terms(network, source, target)
        if not parts:
            images = " and ".join(
                name
                for name, seen in (("source", batch.source_images), ("target", batch.target_images))
                if seen is not None
            )
            raise ConfigError(
                explain(
                    expected=f"a term on {images} images, all there are",
                    got="a weight of 0 for each of them",
                    where="objective",
                    do="choose a dataset with source images and objective.source_ratio > 0, or set "
                    "objective.target_ce=1",
                )
            )
        weights = self.weights | {"negative": self.weights["negative"] * self.negative_ramp(step, total_steps)}
        loss = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
        return {"loss": loss} | {name: value.detach() for name, value in parts.items()} | _watched(source, target)

    def _look(
        self,
        network: SegmenterNetwork,
        images: Tensor | None,
        labels: Tensor | None,
        terms: tuple[str, ...],
        is_cut: bool,
    ) -> Seen | None:
        """Run the network on one domain, and of the branch what the weights ask for.

        None if there are no images or no terms.
        """
        if images is None or labels is None or not any(self.weights[name] for name in terms):
            return None
        output = network(images)
        size_hw = (images.shape[2], images.shape[3])
        logits = upsample(output.logits, size_hw)
        if not (self.weights["aux"] or self.weights["density"]):
            return Seen(labels, output, logits)
        branch: Any = network.branch
        features = branch.reduce(output.backbone.detach() if is_cut else output.backbone)
        return Seen(
            labels,
            output,
            logits,
            features,
            branch.reconstruct(features) if self.weights["density"] else None,
            upsample(branch.classifier(features), size_hw) if self.weights["aux"] else None,
        )

    def more_terms(self, network: SegmenterNetwork, source: Seen | None, target: Seen | None) -> dict[str, Tensor]:
        """Return further losses by name, each with its weight in ``weights``; a subclass's."""
        return {}

    def _of_one_domain(self, source: Seen | None, target: Seen | None) -> dict[str, Tensor]:
        losses: dict[str, tuple[Seen | None, Callable[[Seen], Tensor]]] = {
            "source_ce": (source, lambda seen: self._cross_entropy(seen.logits, seen.labels)),
            "target_ce": (target, lambda seen: self._cross_entropy(seen.logits, seen.labels)),
            "consistency": (
                source,
                lambda seen: boundary_consistency(seen.logits, seen.labels, self.consistency_where),
            ),
            "negative": (target, lambda seen: negative_learning(seen.logits, self.negative_threshold)),
            "margin": (source, lambda seen: margin_loss(seen.logits, seen.labels, self.margin_reduction)),
        }
        return {name: loss(seen) for name, (seen, loss) in losses.items() if seen is not None and self.weights[name]}

    def _cross_entropy(self, logits: Any, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, class_weights=self.class_weights)

    def _of_the_branch(self, domains: list[Seen]) -> dict[str, Tensor]:
        parts = {}
        if self.weights["aux"] and domains:
            parts["aux"] = torch.stack([self._cross_entropy(seen.aux_logits, seen.labels) for seen in domains]).sum()
        if self.weights["density"] and domains:
            errors = [reconstruction_loss(seen.reconstruction, seen.features, self.density_tau) for seen in domains]  # type: ignore[arg-type]
            parts["density"] = source_target_sum(*errors) if len(errors) > 1 else errors[0]
        return parts

    def _check(self, network: SegmenterNetwork) -> None:
        if self.class_weights is not None and len(self.class_weights) != network.num_classes:
            raise ConfigError(
                explain(
                    expected=f"a weight for each of {network.num_classes} classes",
                    got=str(len(self.class_weights)),
                    where="objective.class_weights",
                    do="give them in the order of the dataset's classes, or null",
                )
            )
        branch: DensityBranch | None = network.branch
        for name, is_there, do in (
            ("aux", branch is not None, _BRANCH),
            (
                "density",
                branch is not None and branch.estimator != "none",
                _BRANCH if branch is None else "set segmenter.branch.estimator=dmc5",
            ),
        ):
            if self.weights[name] and not is_there:
                got = "segmenter.branch=null" if branch is None else f"segmenter.branch.estimator={branch.estimator}"
                raise ConfigError(
                    explain(
                        expected=f"a network with what objective.{name}={self.weights[name]:g} trains",
                        got=got,
                        where=f"objective.{name}",
                        do=f"{do}, or objective.{name}=0",
                    )
                )


def _class_weights(values: Sequence[float] | None) -> Tensor | None:
    """Return the weights, the smallest positive one 1; None if there are none."""
    if values is None:
        return None
    found = list_of(not_negative, least=2)(list(values), "objective.class_weights", do="e.g. '[1,1,4]', or null")
    if not any(found):
        raise ConfigError(
            explain(
                expected="a class with a weight above 0",
                got=str(found),
                where="objective.class_weights",
                do="only their ratios matter; null weighs all alike",
            )
        )
    weights = torch.tensor(found, dtype=torch.float32)
    return weights / weights[weights > 0].min()


@torch.no_grad()
def _watched(source: Seen | None, target: Seen | None) -> dict[str, Tensor]:
    seen = [s for s in (source, target) if s is not None and s.reconstruction is not None]
    if not seen:
        return {}
    error = torch.stack([reconstruction_error(s.reconstruction, s.features).mean() for s in seen]).sum()  # type: ignore[arg-type]
    size = torch.stack([s.features.float().square().sum(1).mean() for s in seen]).sum()  # type: ignore[union-attr]
    return {"relative_error": error / size.clamp(min=1e-12)}
