"""Judge a selection without training anything: is it like the validation set, balanced, free of copies, and its price?

Give the images as for a campaign and a list of those that were chosen, by whatever tool: names one a line, the
selected.csv of al-lab select, or a cycle's queries.json. A detector's predictions say what the images show (without
them, labels do, where all have some), arrays hold embeddings. Every number stands beside random selections of the same
size. The folder --out then has lint.html and lint.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from al_lab.cli.select import add_files, sort_out
from al_lab.cli.tool import add_overrides, composed, parser_of, run

_EXAMPLES = """\
examples:
  al-lab lint dataset=folder dataset.root=photos --selection chosen.txt --predictions runs/detect/labels
  al-lab lint dataset=folder dataset.root=photos --selection outputs/photos/entropy/default/seed0/cycle_01/queries.json
  al-lab lint dataset=folder dataset.root=photos --selection round_2/selected.csv --predictions results.json \\
      --arrays embeddings.npz --labeled round_1/selected.csv --out lint_2
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Judge; 0 = done, whatever was found, 2 = the command can't run."""
    args = _parser().parse_intermixed_args(argv)
    sort_out(args)
    return run(args)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("lint", __doc__, _EXAMPLES)
    add_overrides(parser, "the images, as for a campaign")
    add = parser.add_argument
    add("--selection", type=Path, required=True, metavar="LIST", help="the chosen images, the best first")
    add_files(parser, "images that are labeled: what repeats them is said, and random selections don't draw them")
    add("--look", type=int, default=1000, metavar="N", help="images opened for their fingerprints (default 1000)")
    add("--out", type=Path, default=Path("lint"), help="folder of the page (default lint/)")
    parser.set_defaults(run=_lint)
    return parser


def _lint(args: argparse.Namespace) -> int:
    from al_lab.cli.waiting import said_while
    from al_lab.data.lint.words import sentences
    from al_lab.selection.files import near_cosine_of
    from al_lab.selection.given import Given, lint_given

    given = Given(
        args.selection,
        [Path(p) for p in args.predictions],
        [Path(p) for p in args.arrays],
        args.images_json,
        args.first_category,
        args.labeled,
        args.shows,
        near_cosine_of(args.near_cosine),
        args.look,
        args.out,
    )
    with said_while("judging the selection"):
        found, page = lint_given(composed(args), given)
    for sentence in [*sentences(found), *found.notes]:
        print(sentence)
    print(f"{page}, {args.out / 'lint.json'}")
    return 0
