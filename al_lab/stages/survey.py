"""Look at every image of the pool once, before anything is bought: which to leave out, and what they look like."""

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.acquisition.k_means import cold_start
from al_lab.config.build import build
from al_lab.config.embedding import EmbeddingSource
from al_lab.core.arrays import Column, load_arrays
from al_lab.core.budget import Budget
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import ConfigError, DataError, ResumeError, explain
from al_lab.core.fields import flag, optional, text
from al_lab.core.files import atomic_path, sha256, write_json
from al_lab.core.pool import INITIAL, Apart, purchase_dir
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage, StageContext
from al_lab.data.near_copies import fingerprint
from al_lab.data.quality import Facts, brightness, left_out, sharpness
from al_lab.learners.foreign.embedded import Vectors, vectors_of
from al_lab.stages.jobs import open_run
from al_lab.stages.sharding import remove_shards, run_sharded

log = logging.getLogger(__name__)

_COLUMNS = {
    "ids": Column("U", ("N",)),
    "size_hw": Column("i", ("N", 2)),
    "sharpness": Column("f", ("N",)),
    "brightness": Column("f", ("N",)),
    "prints": Column("u", ("N", None)),
    "has_print": Column("b", ("N",)),
    "errors": Column("U", ("N",)),
    "embedding": Column("f", ("N", "D")),
}
_PRINT_WORDS = 16
#: What a cold start leaves out of the initial set, whatever may be bought later.
_NO_START = ("unreadable", "near_copies")
_VERSION = 1


@dataclass(frozen=True)
class LeftOut:
    """One row of ``left_out.json``.

    Attributes:
        sample_id: the image.
        reason: see `Dropped`.
        what: the number that decided, in words.
        like: the image that stays in its place; None: no near copy.
        for_good: it is never bought; otherwise only the initial set goes without it.
    """

    sample_id: str
    reason: str
    what: str
    like: str | None
    for_good: bool

    @classmethod
    def of(cls, entry: Entry) -> "LeftOut":
        """Read one row."""
        return cls(
            entry.read("id", text),
            entry.read("reason", text),
            entry.read("what", text),
            entry.read("like", optional(text), None),
            entry.read("for_good", flag),
        )


class Survey(Stage):
    """pool -> ``initial/survey.npz`` (facts and embeddings), ``initial/left_out.json``."""

    name = "survey"
    is_first = True

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Look at the images in parallel; what was seen of the same files is reused from ``runtime.cache_dir``."""
        target = _survey_path(ctx.run_dir)
        cache = _cache_path(ctx)
        if cache is not None and cache.is_file():
            log.info("the same images were looked at before: %s", cache)
            with atomic_path(target) as temporary:
                shutil.copyfile(cache, temporary)
        else:
            self._look(ctx, target)
            if cache is not None:
                with atomic_path(cache) as temporary:
                    shutil.copyfile(target, temporary)
        facts, embedding_ND = read_survey(target)
        if embedding_ND.shape[1] and _finds_copies(ctx.budget, ctx.config):
            facts = replace(facts, embedding=embedding_ND)
        for_good = left_out(facts, ctx.budget.leave_out, ctx.budget.limits_of())
        gone = {d.sample_id for d in for_good}
        at_first = left_out(facts, _NO_START, ctx.budget.limits_of()) if ctx.budget.initial_by == "cold_start" else []
        at_first = [d for d in at_first if d.sample_id not in gone]
        rows = [(d, True) for d in for_good] + [(d, False) for d in at_first]
        paths = {i: str(ctx.dataset.image_path(i)) for d, _ in rows for i in (d.sample_id, d.like) if i}
        write_json(
            _left_out_path(ctx.run_dir),
            {
                "images": len(facts.ids),
                "limits": asdict(ctx.budget.limits_of()),
                "left_out": [
                    {
                        "id": d.sample_id, "reason": d.reason, "what": d.what, "like": d.like, "for_good": good,
                        "image": paths[d.sample_id], "like_image": paths.get(d.like or ""),
                    }
                    for d, good in rows
                ],
            },
        )  # fmt: skip
        _say(facts, for_good, at_first)
        _check_plan(ctx, len(facts.ids) - len(gone))
        return {"num_looked_at": len(facts.ids), "num_left_out": len(gone)}

    @staticmethod
    def _look(ctx: StageContext, target: Path) -> None:
        paths = run_sharded(ctx, "survey", "al_lab.stages.survey:look", ctx.pool.ids, ctx.run_dir, ".npz")
        parts = [load_arrays(path, _COLUMNS) for path in paths]
        with atomic_path(target) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **{name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS})
        remove_shards(paths)

    def files(self, ctx: StageContext) -> list[Path]:
        """Return both files."""
        return [_survey_path(ctx.run_dir), _left_out_path(ctx.run_dir)]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return nothing: it looks at the dataset's files."""
        return []


def look(run_dir: str, checkpoint: str, ids: Sequence[str], out: str) -> dict[str, float]:
    """Look at some images of a run; a job of `Survey` (``checkpoint`` is not used)."""
    del checkpoint
    config, dataset = open_run(run_dir)
    budget: Budget = build(config["budget"])
    source = _source(budget, config)
    embed = None if source is None else vectors_of(source, dataset, config["runtime"].get("data_dir"))
    rows: list[dict[str, Any]] = []
    batch: list[tuple[dict[str, Any], np.ndarray]] = []
    size = int(config["runtime"]["predict_batch"])
    for sample_id in ids:
        row = _blank(sample_id)
        rows.append(row)
        try:
            image = dataset.load_image(sample_id)
        except DataError as error:
            row["errors"] = str(error)
            continue
        found = fingerprint(image)
        row |= {"size_hw": np.array(image.shape[:2]), "sharpness": sharpness(image), "brightness": brightness(image)}
        row |= {} if found is None else {"prints": found, "has_print": True}
        batch.append((row, image))
        if len(batch) == size:
            _embed(embed, batch)
    _embed(embed, batch)
    width = max((len(row["embedding"]) for row in rows), default=0)
    for row in rows:
        row["embedding"] = row["embedding"] if len(row["embedding"]) else np.full(width, np.nan, np.float32)
    with atomic_path(Path(out)) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: np.array([row[name] for row in rows]) for name in _COLUMNS})  # type: ignore[arg-type]
    return {"images": len(ids)}


def _blank(sample_id: str) -> dict[str, Any]:
    return {
        "ids": sample_id, "size_hw": np.zeros(2, np.int64), "sharpness": 0.0, "brightness": 0.0, "errors": "",
        "prints": np.zeros(_PRINT_WORDS, np.uint16), "has_print": False, "embedding": np.zeros(0, np.float32),
    }  # fmt: skip


def _given(config: Mapping[str, Any]) -> EmbeddingSource | None:
    """Return the embedding that ``embedding`` gives before anything is trained."""
    source = EmbeddingSource.read(config.get("embedding"))
    return None if source is None or source.kind == "objects" else source


def _finds_copies(budget: Budget, config: Mapping[str, Any]) -> bool:
    """Say whether near copies are looked for by embedding: by one that was asked for, not by a cold start's own."""
    return budget.limits_of().near_copies_cosine is not None and _given(config) is not None


def _source(budget: Budget, config: Mapping[str, Any]) -> EmbeddingSource | None:
    """Return what embeds the pool: for a cold start, or to find near copies."""
    is_cold = budget.initial_by == "cold_start"
    if not is_cold and not ("near_copies" in budget.leave_out and _finds_copies(budget, config)):
        return None
    source, start = _given(config), budget.start
    if source is not None:
        return source
    return EmbeddingSource("backbone", backbone=start.backbone, weights=start.weights, input_px=start.input_px)


def _embed(vectors: Vectors | None, batch: list[tuple[dict[str, Any], np.ndarray]]) -> None:
    """Write the embeddings of a batch into its rows, and empty it."""
    if vectors is not None and batch:
        for (row, _), vector in zip(
            batch, vectors.of([row["ids"] for row, _ in batch], [image for _, image in batch]), strict=True
        ):
            row["embedding"] = vector
    batch.clear()


def _survey_path(run_dir: Path) -> Path:
    return purchase_dir(run_dir, INITIAL) / "survey.npz"


def _left_out_path(run_dir: Path) -> Path:
    return purchase_dir(run_dir, INITIAL) / "left_out.json"


def _cache_path(ctx: StageContext) -> Path | None:
    """Return where the survey of the same files by the same network is kept; None without ``runtime.cache_dir``."""
    root = ctx.config["runtime"].get("cache_dir")
    if not root:
        return None
    source = _source(ctx.budget, ctx.config)
    network: list[Any] = []
    if source is not None:
        file = Path(source.path or source.weights or "").expanduser()
        network = [source.backbone, source.input_px, sha256(file) if file.is_file() else source.weights]
    digest = hashlib.sha256(json.dumps([_VERSION, network]).encode())
    for sample_id in ctx.pool.ids:
        state = ctx.dataset.image_path(sample_id).stat()
        digest.update(f"{sample_id}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return Path(root) / f"survey-{digest.hexdigest()[:32]}.npz"


def read_survey(path: Path) -> tuple[Facts, np.ndarray]:
    """Return what was seen of the images, and their embeddings (N, D) float32, NaN of unreadable ones.

    Raises:
        ResumeError: if the file is damaged.
    """
    z = load_arrays(path, _COLUMNS)
    ids = z["ids"].tolist()
    return Facts(
        ids,
        z["size_hw"],
        z["sharpness"],
        z["brightness"],
        {i: p for i, p, has in zip(ids, z["prints"], z["has_print"].tolist(), strict=True) if has},
        {i: e for i, e in zip(ids, z["errors"].tolist(), strict=True) if e},
    ), z["embedding"]


def read_left_out(run_dir: Path) -> list[LeftOut]:
    """Return which images are left out, and why; none if nobody looked.

    Raises:
        ResumeError: naming the row and the field that makes no sense.
    """
    path = _left_out_path(run_dir)
    if not path.is_file():
        return []
    do = "run the same command again: it is made again"
    document = Source(path, "which images are left out, and why", do, ResumeError).read_entry()
    return [LeftOut.of(entry) for entry in document.entries("left_out")]


def cold_start_ids(ctx: StageContext, count: int, rng: Rng) -> list[str]:
    """Return the initial set that `ColdStart` describes; groups share it as evenly as a gap, or their number, allows.

    Raises:
        ConfigError: if fewer images are left than it is to have.
    """
    facts, embedding_ND = read_survey(_survey_path(ctx.run_dir))
    row_of = {i: n for n, i in enumerate(facts.ids)}
    gone = {row.sample_id for row in read_left_out(ctx.run_dir)} | set(facts.errors)
    ids = [i for i in ctx.pool.ids if i not in gone]
    grouping = ctx.dataset.grouping
    rule = ctx.pool.apart
    if rule is None and grouping is not None:
        rule = Apart({i: grouping.group(i) for i in ids})
    x_ND = embedding_ND[[row_of[i] for i in ids]]
    found: list[str] = []
    if rule is not None:
        found = _chosen(ctx, ids, x_ND, count, rng, rule)
    if len(found) < count and ctx.pool.apart is None:  # groups alone only say where to begin
        taken = set(found)
        left = [n for n, i in enumerate(ids) if i not in taken]
        found += _chosen(ctx, [ids[n] for n in left], x_ND[left], count - len(found), rng, None)
    if len(found) < count:
        raise ConfigError(
            explain(
                expected=f"{count} images to begin with",
                got=f"{len(found)} that can be read, are no near copies and keep the gap in their groups",
                where="budget.initial with budget.initial_by=cold_start",
                do=f"set budget.initial={len(found)}, or budget.initial_by=random",
            )
        )
    return found


def _chosen(
    ctx: StageContext, ids: Sequence[str], x_ND: np.ndarray, count: int, rng: Rng, rule: Apart | None
) -> list[str]:
    near = (lambda row: np.array([row])) if rule is None else rule.rows(ids).near
    order = cold_start(x_ND, count, ctx.budget.start.by, rng.tie_keys(ids), rng.child("cold start"), near)
    return [ids[n] for n in order.tolist()][:count]


def _say(facts: Facts, for_good: Sequence[Any], at_first: Sequence[Any]) -> None:
    for found, where in ((for_good, "never bought"), (at_first, "not in the initial set")):
        if found:
            counts = ", ".join(f"{n} {reason}" for reason, n in Counter(d.reason for d in found).most_common())
            log.info("%d of %d images are %s: %s (initial/left_out.json)", len(found), len(facts.ids), where, counts)
    lost = set(facts.errors) - {d.sample_id for d in for_good}
    if lost:
        first = min(lost)
        log.warning(
            "%d images can't be read and stop a campaign that looks at them, first %s: %s; "
            "budget.leave_out='[unreadable]' goes on without them",
            len(lost), first, facts.errors[first],
        )  # fmt: skip


def _check_plan(ctx: StageContext, left: int) -> None:
    """Refuse a plan that buys more than what was not left out.

    Raises:
        ConfigError: with the numbers.
    """
    budget, size = ctx.budget, len(ctx.pool)
    total = budget.initial_images(size) or 0
    total += sum(budget.allowance(c, size).amount for c in range(budget.cycles)) if budget.unit == "image" else 0
    if total > left:
        raise ConfigError(
            explain(
                expected=f"a budget of at most the {left} of {size} images that are not left out",
                got=str(total),
                where="budget with budget.leave_out",
                do="lower budget.cycles, budget.per_cycle or budget.initial, or leave out less (initial/left_out.json "
                "says what and why)",
            )
        )
