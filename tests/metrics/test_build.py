import pytest

from al_lab.core.errors import ConfigError
from al_lab.metrics.build import build_metrics


def test_names_of_one_kind_share_one_computation() -> None:
    metrics = build_metrics(["voc_area_ap50", "coco_ap", "voc07_ap50"])
    assert [m.names for m in metrics] == [("voc_area_ap50", "voc07_ap50"), ("coco_ap",)]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'voc07_ap50'"):
        build_metrics(["voc07ap50"])
