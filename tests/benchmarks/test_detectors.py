"""Eight images by heart: the loss falls, a training in two parts is the one in one part, and what is said is there."""

from pathlib import Path

import pytest
import yaml

from al_lab.benchmarks.detectors import check
from al_lab.config.load import compose

FOLDER = Path(__file__).parents[2] / "conf" / "detector"
SMALL = ["tiny", "faster_rcnn_small", "ssdlite"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_eight_images_by_heart(name: str, tmp_path: Path) -> None:
    words = ["dataset=shapes", "dataset.num_pool=10", "dataset.num_test=1", "trainer=tiny", "trainer.batch_size=4"]
    words += [f"runtime.data_dir={tmp_path}", "strategy=random", "objective=supervised", f"detector={name}"]
    words += ["detector.weights=null"] if "weights" in yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) else []
    seen = check(compose([*words, "trainer.lr=0.001"]), steps=24)
    assert seen.resumes
    assert seen.last < seen.first
    assert min(seen.embedding) > 0
