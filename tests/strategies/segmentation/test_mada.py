"""MADA's selection against its definition, location by location."""

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.types import Candidates
from al_lab.strategies.segmentation.mada import Mada
from tests.stubs import FakeSegmenter, StubDense

HW, COARSE = (24, 32), (6, 8)


def views(ids):
    learner = FakeSegmenter(3)
    learner.state = "trained"
    return list(learner.views(ids, ()))


def vector(view, label=None, least=10):
    """g as the class's docstring has it; a location is the nearest pixel, with corners aligned."""
    found = np.zeros((3, 5))
    count = np.zeros(3)
    for i in range(COARSE[0]):
        for j in range(COARSE[1]):
            y, x = round(i * (HW[0] - 1) / (COARSE[0] - 1)), round(j * (HW[1] - 1) / (COARSE[1] - 1))
            c = int(view.probs[:, y, x].argmax())
            if label is None or label[y, x] == c:
                found[c] += view.features[:, i, j].numpy()
                count[c] += 1
    return np.where(count[:, None] >= least, found / np.maximum(count, 1)[:, None], 0).reshape(-1)


def test_the_images_farthest_from_every_anchor_are_bought(context, tmp_path):
    data, strategy = StubDense(), Mada(anchors=2, min_pixels=4)
    source, target = views(data.source_ids), views(data.pool_ids)
    rows = {
        "centroids": np.concatenate(
            [strategy.of_source(v, data.source_label(v.sample_id))["centroids"] for v in source]
        )
    }
    np.testing.assert_allclose(
        rows["centroids"], [vector(v, data.source_label(v.sample_id), 4) for v in source], atol=1e-5
    )
    kept = strategy.summary(rows, Rng(0))
    np.savez(tmp_path / "source.npz", **kept)
    strategy.restore(tmp_path)
    seen = Candidates.concat([strategy.propose(v, context(None)) for v in target])
    g = np.array([vector(v, None, 4) for v in target])
    far = ((g[:, None] - kept["anchors"]) ** 2).mean(2).min(1)
    queries = strategy.select(seen, Pool(data.pool_ids), Allowance("image", 3), Rng(0))
    assert [q.sample_id for q in queries] == [data.pool_ids[k] for k in np.argsort(-far)[:3]]
    assert [q.utility for q in queries] == pytest.approx(np.sort(far)[::-1][:3], rel=1e-5)


def test_a_source_is_needed_and_features_are():
    data = StubDense()
    data.source_ids = ()
    with pytest.raises(ConfigError, match="expected a source domain"):
        Mada().check_dataset(data)
    with pytest.raises(ConfigError, match=r"strategy.anchors"):
        Mada(anchors=0)
