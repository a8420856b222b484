"""Shards: a kill at any moment of their removal leaves a run that goes on."""

from pathlib import Path

import pytest

from al_lab.execution.inline import InlineExecutor
from al_lab.execution.job import Job
from al_lab.stages.sharding import remove_shards


def write(out: str, beside: str) -> dict[str, int]:
    Path(out).write_text(f"content of {Path(out).name}")
    Path(beside).write_text("more of it")
    return {"images": 1}


def jobs(folder: Path) -> list[Job]:
    made = []
    for n in range(3):
        out, beside = folder / f"score_{n:03d}.npz", folder / f"score_{n:03d}.pseudo.npz"
        kwargs = {"out": str(out), "beside": str(beside)}
        made.append(
            Job(f"{n}", "tests.stages.test_sharding:write", kwargs, out.with_suffix(".json"), outputs=(out, beside))
        )
    return made


@pytest.mark.parametrize("survivors", range(10))
def test_killed_between_any_two_unlinks_the_shards_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    outs = [job.outputs[0] for job in jobs(folder)]
    InlineExecutor().run(jobs(folder))
    (folder / "score_003.npz").write_text("of a run with more workers")
    real, count = Path.unlink, 0

    def unlink(self: Path, missing_ok: bool = False) -> None:
        nonlocal count
        count += 1
        if count > survivors:
            raise KeyboardInterrupt
        real(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            remove_shards(outs)
    InlineExecutor().run(jobs(folder))
    assert [out.read_text() for out in outs] == [f"content of {out.name}" for out in outs]
    remove_shards(outs)
    assert not folder.exists()
