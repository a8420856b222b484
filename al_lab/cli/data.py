"""Check, describe, download and convert datasets; make a pool of near copies."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.cli.tool import add_command, add_target, dataset_of, parser_of, run

_EXAMPLES = """\
examples:
  al-lab data verify dataset=voc_folder dataset.root=photos
  al-lab data verify dataset=coco --headers
  al-lab data stats dataset=shapes --json
  al-lab data verify dataset=segmentation_folder dataset.root=photos dataset.source=drawings
  al-lab data download voc --data-dir data
  al-lab data convert dataset=folder dataset.root=photos --to yolo --out photos_yolo
  al-lab data near-copies dataset=folder dataset.root=photos --share 0.7 --photographs 8 --out photos_copies
"""
# What can be downloaded (or is asked for, where it needs an account), and the overrides under which it is checked.
_GROUPS = {
    "voc": "dataset=voc",
    "coco": "dataset=coco",
    "coco2014": "dataset=coco dataset.year=2014",
    "gtav": "dataset=gtav_cityscapes",
    "synthia": "dataset=synthia_cityscapes",
    "cityscapes": "dataset=gtav_cityscapes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 = fine, 1 = `verify` found errors, 2 = the command can't run."""
    return run(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("data", __doc__, _EXAMPLES)
    commands = parser.add_subparsers(required=True, metavar="{verify,stats,download,convert,near-copies}")

    about = "look at every image and annotation, name each problem and its remedy"
    verify = add_command(commands, "verify", _verify, about)
    verify.add_argument("--headers", action="store_true", help="read image headers only (fast; misses cut-off files)")
    verify.add_argument("--limit", type=int, default=20, help="findings shown per severity (default 20)")
    verify.add_argument("--json", action="store_true", help="all findings as JSON")

    stats = add_command(commands, "stats", _stats, "count images, boxes or pixels, and sizes per split and class")
    stats.add_argument("--json", action="store_true", help="as JSON")

    download = commands.add_parser(
        "download", help="fetch and unpack an official dataset (goes on where it stopped), or say where to get it"
    )
    download.add_argument("name", choices=tuple(_GROUPS))
    download.add_argument("--data-dir", type=Path, default=None, help="default: runtime.data_dir")
    download.add_argument("--keep-archives", action="store_true", help="keep the archives after unpacking")
    download.set_defaults(run=_download)

    about = "write the labeled images in another format, a folder a split"
    convert = add_command(commands, "convert", _convert, about, "what to read, as for a campaign")
    add_target(convert)
    _add_near_copies(commands)
    return parser


def _add_near_copies(commands: Any) -> None:
    about = "make a pool most of which are near copies of a few photographs, to try strategies on"
    copies = add_command(commands, "near-copies", _near_copies, about, "labeled boxes, as for a campaign")
    copies.add_argument("--out", type=Path, required=True, help="a new folder, for dataset=folder")
    copies.add_argument("--share", type=float, default=0.7, help="of the new pool that are near copies (default 0.7)")
    copies.add_argument("--photographs", type=int, default=8, help="that are copied (default 8)")
    copies.add_argument("--cut", type=float, default=0.08, help="most that a copy loses of a side (default 0.08)")
    copies.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")


def _verify(args: argparse.Namespace) -> int:
    from al_lab.core.errors import DataErrors
    from al_lab.data.datasets.dataset import Finding
    from al_lab.data.verify import format_findings

    try:
        dataset = dataset_of(args)
    except DataErrors as error:  # a file that keeps the dataset from being opened: all that is wrong in it
        findings = [Finding("error", "", sentence, "correct the file") for sentence in error.sentences]
        print(json.dumps([vars(f) for f in findings], indent=1) if args.json else format_findings(findings, args.limit))
        return 1
    findings = dataset.verify(decode=not args.headers, progress=_progress)
    errors = sum(f.severity == "error" for f in findings)
    if args.json:
        print(json.dumps([vars(f) for f in findings], indent=1))
    else:
        if findings:
            print(format_findings(findings, args.limit))
        splits = {split: len(ids) for split, ids in dataset.splits().items()}
        counts = ", ".join(f"{split} {count}" for split, count in splits.items())
        print(f"{dataset.name}: {counts} images, {len(dataset.classes)} classes; {sum(splits.values())} looked at, "
              f"{len(findings)} findings, {errors} errors")  # fmt: skip
    return 1 if errors else 0


def _stats(args: argparse.Namespace) -> int:
    from al_lab.data.verify import format_statistics, statistics

    dataset = dataset_of(args)
    stats = statistics(dataset, _progress)
    print(json.dumps(stats, indent=1) if args.json else format_statistics(dataset, stats))
    return 0


def _download(args: argparse.Namespace) -> int:
    from al_lab.config.load import compose
    from al_lab.data.download import download

    data_dir = args.data_dir or Path(compose()["runtime"]["data_dir"])
    download(args.name, data_dir, args.keep_archives, _bytes)
    print(f"done; check it: al-lab data verify {_GROUPS[args.name]} runtime.data_dir={data_dir}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from al_lab.data.convert import convert, sentences

    written, notes = convert(dataset_of(args), args.to, args.out, args.images, _progress)
    print("\n".join(sentences(written, notes, args.to, args.out)))
    return 0


def _near_copies(args: argparse.Namespace) -> int:
    from al_lab.data.copied_pool import Recipe, write_copied_pool

    recipe = Recipe(args.share, args.photographs, args.cut, args.seed)
    print("\n".join(write_copied_pool(dataset_of(args), args.out, recipe, _progress)))
    return 0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 50 == 0 or done == total):
        sys.stderr.write(f"\r{done}/{total}" + ("\n" if done == total else ""))


def _bytes(file: str, done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        of = f" of {total / 1e6:,.0f}" if total else ""
        sys.stderr.write(f"\r{file}: {done / 1e6:,.0f}{of} MB" + ("\n" if done == total else ""))
