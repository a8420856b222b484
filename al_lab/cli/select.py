"""Choose the images to label next from what any detector said of them: no training, no campaign.

Give the images as for a campaign, and the detector's predictions as files: COCO results (.json), YOLO text (a folder),
a table (.csv: file,class,x1,y1,x2,y2,confidence), Label Studio's JSON, arrays (.npz). The folder --out then has
selected.csv (rank, file, utility, why), selected.html (the images with their boxes) and to_label/ (for people).
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from al_lab.cli.tool import add_overrides, composed, parser_of, run

_EXAMPLES = """\
examples:
  al-lab select dataset=folder dataset.root=photos --predictions runs/detect/labels --count 500
  al-lab select dataset=folder dataset.root=photos strategy=entropy strategy.aggregate=sum --predictions results.json \\
      --images-json instances.json --count 500 --random-share 0.1 --quota person=0.3 --tool cvat --out round_1
  al-lab select dataset=folder dataset.root=photos strategy=core_set --arrays embeddings.npz --count 500 \\
      --labeled annotated round_1/selected.csv --cycle 1 --out round_2
"""
_OVERRIDE = re.compile(r"[~+]*[A-Za-z_][\w./@]*=.*", re.S)
_LISTS = ("predictions", "arrays", "labeled")
# Options that the next round has, too.
_KEPT = ("config_dir", "images_json", "first_category", "count", "boxes", "random_share", "shows", "near_copies",
         "near_cosine", "tool", "min_confidence", "thumbnails")  # fmt: skip
_DEFAULT = "strategy=entropy"


def main(argv: Sequence[str] | None = None) -> int:
    """Choose images; 0 = done, 2 = the command can't run."""
    args = _parser().parse_intermixed_args(argv)
    sort_out(args)
    return run(args)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("select", __doc__, _EXAMPLES)
    add_overrides(parser, "images and strategy, as for a campaign; strategy=entropy if none is named")
    add = parser.add_argument
    add_files(parser, "images to leave out: lists, selected.csv of earlier rounds, or the word annotated")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--count", type=int, metavar="N", help="images to choose")
    amount.add_argument("--boxes", type=int, metavar="N", help="boxes to label, as many as the detector expects")
    add("--random-share", type=float, default=0.0, metavar="S",
        help="of it, drawn at random and marked so: tells afterwards whether the strategy was worth it")  # fmt: skip
    add("--quota", action="append", default=[], metavar="CLASS=SHARE",
        help="least share of the chosen images (or boxes) that show a class; repeatable")  # fmt: skip
    add("--near-copies", choices=("leave-out", "keep"), default="leave-out",
        help="of better ranked images (default leave-out: the chosen images are opened)")  # fmt: skip
    add("--cycle", type=int, default=0, metavar="N", help="which round this is: it draws anew (default 0)")
    add("--tool", help="also in the format of cvat, label_studio, yolo, coco, voc or labelme")
    add("--min-confidence", type=float, default=0.3, metavar="S", help="of boxes offered to start from (default 0.3)")
    add("--thumbnails", type=int, default=200, metavar="N", help="on the page, the rest is in the table (default 200)")
    add("--out", type=Path, default=Path("selected"), help="a new folder (default selected/)")
    parser.set_defaults(run=_select)
    return parser


def add_files(parser: argparse.ArgumentParser, labeled: str) -> None:
    """Let a command take what a detector said of the images, and which of them are labeled.

    Args:
        parser: of the command.
        labeled: what it does with labeled images.
    """
    add = parser.add_argument
    add("--predictions", nargs="+", default=[], metavar="FILE", help="of the detector: files, or folders of YOLO text")
    add("--arrays", nargs="+", default=[], metavar="FILE", help="embeddings and whole class distributions (.npz)")
    add("--images-json", type=Path, metavar="FILE", help="a COCO document whose images and categories explain ids")
    add("--first-category", type=int, choices=(0, 1), help="number of the first class, where no file tells")
    add("--labeled", nargs="+", default=[], metavar="LIST", help=labeled)
    add("--shows", type=float, default=0.3, metavar="S", help="confidence of an image that shows a class (default 0.3)")
    add("--near-cosine", default="auto", metavar="C",
        help="of two embeddings, from which on images are near copies, labeled ones included: a number, off, or auto "
        "(default: nearer than 0.4 of the usual distance)")  # fmt: skip


def sort_out(args: argparse.Namespace) -> None:
    """Take out of lists of files what is none: in ``--labeled a.txt strategy=margin`` the last word is no list."""
    for name in _LISTS:
        words = getattr(args, name)
        overrides = [w for w in words if _OVERRIDE.fullmatch(w) and not Path(w).exists()]
        args.overrides += overrides
        setattr(args, name, [w for w in words if w not in overrides])


def _select(args: argparse.Namespace) -> int:
    from al_lab.cli.waiting import said_while
    from al_lab.selection.run import Asked, select

    if not any(o.startswith("strategy=") for o in args.overrides):
        args.overrides.append(_DEFAULT)
    asked = Asked(
        [Path(p) for p in args.predictions],
        [Path(p) for p in args.arrays],
        args.images_json,
        args.first_category,
        args.labeled,
        args.count if args.count is not None else args.boxes,
        "image" if args.count is not None else "box",
        args.random_share,
        _quotas(args.quota),
        args.shows,
        args.near_copies == "keep",
        args.near_cosine,
        args.cycle,
        args.out,
        args.tool,
        args.thumbnails,
        args.min_confidence,
        [_take(args), _again(args)],
    )
    with said_while("choosing images"):
        outcome = select(composed(args), asked)
    from al_lab.data.lint.words import sentences

    for sentence in sentences(outcome.lint):
        print(sentence)
    print(f"{len(outcome.rows)} images: {args.out / 'selected.csv'}, {outcome.page}, {args.out / 'to_label'}/")
    return 0


def _take(args: argparse.Namespace) -> str:
    """Return the command that takes over what people labeled."""
    of_data = [o for o in args.overrides if o.startswith(("dataset", "runtime"))]
    return shlex.join(["al-lab", "labels", "take", *of_data, "--round", str(args.out)])


def _again(args: argparse.Namespace) -> str:
    """Return the command of the next round: the same, without what this one chooses, into a folder of its own."""
    listed = {name: list(map(str, getattr(args, name))) for name in _LISTS}
    listed["labeled"].append(str(args.out / "selected.csv"))
    words = ["al-lab", "select", *args.overrides]
    words += [w for name, values in listed.items() if values for w in (f"--{name}", *values)]
    words += [w for quota in args.quota for w in ("--quota", quota)]
    default = _parser().parse_args(["--count", "1"])
    for name in _KEPT:
        value = getattr(args, name)
        if value is not None and (value != getattr(default, name) or name == "count"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    number = re.search(r"_(\d+)$", args.out.name)
    out = args.out.with_name(f"{args.out.name[: number.start()] if number else args.out.name}_{args.cycle + 2}")
    return shlex.join([*words, "--cycle", str(args.cycle + 1), "--out", str(out)])


def _quotas(words: Sequence[str]) -> dict[str, float]:
    from al_lab.core.errors import ConfigError, explain

    found = {}
    for word in words:
        name, _, share = word.rpartition("=")
        try:
            found[name] = float(share)
        except ValueError:
            do = "e.g. --quota person=0.3"
            raise ConfigError(explain(expected="CLASS=SHARE", got=repr(word), where="--quota", do=do)) from None
    return found
