"""Which words of `Strategy.needs` have a read-out."""

from dataclasses import fields

from al_lab.learners.readouts.box_features import box_features
from al_lab.learners.readouts.evidence import EvidenceRule, box_evidence
from al_lab.learners.readouts.look import ReadOut
from al_lab.learners.readouts.mixture import box_mixture
from al_lab.learners.readouts.of_boxes import pre_suppression_count
from al_lab.learners.readouts.of_images import class_difficulty, head_disagreement, predicted_loss, prior_mixture
from al_lab.learners.readouts.of_several import box_mutual_information, of_members

READ_OUTS: dict[str, ReadOut] = {
    "box_features": ReadOut(box_features, of_boxes=True, accepts=("sampling",)),
    "box_mutual_information": ReadOut(
        box_mutual_information, of_boxes=True, option="passes", accepts=("count", "as_released", "seed")
    ),
    "class_difficulty": ReadOut(class_difficulty),
    "head_disagreement": ReadOut(head_disagreement, accepts=("top", "space")),
    "member_entropy": ReadOut(of_members, option="members", accepts=("as_released",)),
    "predicted_loss": ReadOut(predicted_loss),
    "box_evidence": ReadOut(
        box_evidence, of_boxes=True, option="evidence", accepts=tuple(f.name for f in fields(EvidenceRule))
    ),
    "box_mixture": ReadOut(box_mixture, of_boxes=True),
    "pre_suppression_count": ReadOut(pre_suppression_count, of_boxes=True),
    "prior_mixture": ReadOut(prior_mixture, accepts=("min_confidence", "by_class")),
}


def option_names() -> dict[str, tuple[str, ...]]:
    """Return the keys of `Strategy.view_options` that read-outs have, each with the numbers it may hold."""
    named: dict[str, tuple[str, ...]] = {}
    for word, read_out in READ_OUTS.items():
        if read_out.accepts:
            key = read_out.option or word
            named[key] = tuple(dict.fromkeys((*named.get(key, ()), *read_out.accepts)))
    return named
