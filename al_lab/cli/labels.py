"""What people labeled, kept with the images: list it, take it out, bring labels in, forget them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.cli.tool import add_command, add_target, composed, dataset_of, parser_of, run

_EXAMPLES = """\
examples:
  al-lab labels list                                                   how many images have labels, of which classes
  al-lab labels list dataset=folder dataset.root=photos                which of these photographs are labeled
  al-lab labels import dataset=folder dataset.root=labeled_photos      take over what lies there, as people's labels
  al-lab labels take dataset=folder dataset.root=photos --round round_1     what came back of a choice of al-lab select
  al-lab labels export dataset=folder dataset.root=photos 'dataset.classes=[cat,dog]' --to coco --out photos_coco
  al-lab labels forget dataset=folder dataset.root=photos --yes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 = fine, 2 = the command can't run."""
    return run(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("labels", __doc__, _EXAMPLES)
    commands = parser.add_subparsers(required=True, metavar="{list,export,import,take,forget}")
    for name, function, words in (
        ("list", _list, "count what is there; of a dataset's images, if one is named"),
        ("export", _export, "write the labels of a dataset's images in any format"),
        ("import", _import, "take over the annotations that lie beside a dataset's images"),
        ("take", _take, "take over what people put into the folder of a choice (al-lab select)"),
        ("forget", _forget, "remove the labels of a dataset's images; runs that used them keep theirs"),
    ):
        command = add_command(commands, name, function, words, "as for a campaign")
        if name == "export":
            add_target(command)
        if name == "take":
            command.add_argument("--round", type=Path, required=True, help="the folder that al-lab select wrote")
        if name == "forget":
            command.add_argument(
                "--yes", action="store_true", help="without it, nothing is removed: it is only counted"
            )
    return parser


def _store(args: argparse.Namespace) -> Any:
    from al_lab.labeling.store import LabelStore

    return LabelStore(Path(composed(args)["runtime"]["data_dir"]) / ".labels")


def _list(args: argparse.Namespace) -> int:
    from al_lab.labeling.store import stored_labels

    store = _store(args)
    if any(o.startswith(("dataset=", "dataset.")) for o in args.overrides):
        dataset = dataset_of(args)
        ids = [i for ids in dataset.splits().values() for i in ids]
        found = stored_labels(store, dataset, ids)
        for sample_id, label in found.items():
            print(f"{sample_id}: {label.size_words}, version {label.version}, {label.when}")
        print(f"{dataset.name}: {len(found)} of {len(ids)} images have labels in {store.folder}")
        return 0
    for task, unit in (("detection", "boxes"), ("segmentation", "labeled pixels")):
        counts: Counter[str] = Counter()
        images = versions = 0
        for digest in store.for_task(task).digests():
            answers = store.for_task(task).versions(digest)
            images, versions = images + 1, versions + len(answers)
            known = store.for_task(task).find(digest, answers[-1].classes)
            counts.update(known.class_counts() if known is not None else {})
        if images or task == "detection":
            print(f"{store.folder}: {images} images, {versions} answers, {sum(counts.values()):,} {unit}")
        for name, count in counts.most_common():
            print(f"  {name}  {count:,}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from al_lab.data.convert import convert, sentences
    from al_lab.labeling.store import StoredDataset

    labeled = StoredDataset(dataset_of(args), _store(args))
    written, notes = convert(labeled, args.to, args.out, args.images)
    print("\n".join(sentences(written, notes, args.to, args.out)))
    return 0


def _import(args: argparse.Namespace) -> int:
    from al_lab.labeling.store import take_over

    dataset = dataset_of(args)
    store = _store(args)
    new, known, problems = take_over(store, dataset, origin=f"imported from {dataset.name}")
    for problem in problems:
        print(f"not taken over: {problem}")
    print(f"{store.folder}: {new} new answers, {known} known already, {len(problems)} not taken over")
    return 0


def _take(args: argparse.Namespace) -> int:
    from al_lab.config.build import build
    from al_lab.config.checks import check_targets
    from al_lab.selection.taken import classes_of, sentences, take

    node = composed(args)["dataset"]
    check_targets({"dataset": node})
    if "classes" in node and not node["classes"]:  # those of the predictions, perhaps, which nobody gives here
        node = {**node, "classes": classes_of(args.round)}
    print("\n".join(sentences(take(args.round, build(node), _store(args)), args.round)))
    return 0


def _forget(args: argparse.Namespace) -> int:
    from al_lab.core.files import sha256
    from al_lab.labeling.store import stored_labels

    store, dataset = _store(args), dataset_of(args)
    found = stored_labels(store, dataset, [i for ids in dataset.splits().values() for i in ids])
    if not args.yes:
        print(f"{len(found)} images of {dataset.name} have labels in {store.folder}; add --yes to remove them")
        return 0
    removed = sum(store.for_task(dataset.task).forget(sha256(dataset.image_path(i))) for i in found)
    print(f"{removed} answers about {len(found)} images are removed from {store.folder}")
    return 0
