"""The table that ends a sweep."""

from al_lab.cli.sweep import table


def test_every_job_has_its_line():
    jobs = [["trainer.lr=1", "seed=0"], ["trainer.lr=1", "seed=1"], ["trainer.lr=1", "seed=2"]]
    records = [
        {
            "error": None,
            "outcome": {"status": "finished", "voc07_ap50": 0.12345, "run_dir": "outputs/x", "message": ""},
        },
        {"error": "train: it broke\nTraceback …", "outcome": None},
        None,
    ]
    lines = table(jobs, records).splitlines()
    assert lines[0] == "sweep: 1 of 3 jobs ended well"
    assert lines[1] == "seed=0  finished  voc07_ap50=0.1235  outputs/x"
    assert lines[2] == "seed=1  FAILED    train: it broke"
    assert lines[3].startswith("seed=2  died      its process left no result")


def test_a_sweep_of_one_job_and_one_without_an_outcome():
    assert "seed=0  finished" in table([["seed=0"]], [{"error": None, "outcome": None}])
