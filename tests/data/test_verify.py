from al_lab.data.datasets.dataset import Finding
from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.verify import format_findings, format_statistics, statistics


def test_statistics_count_what_is_there(voc_tree):
    objects = {
        "a": [("dog", 1, 1, 11, 11), ("cat", 1, 1, 41, 40, True)],
        "b": [],
        "c": None,
        "d": [("cow", 1, 1, 5, 5)],
    }
    root = voc_tree(objects, {"train": list(objects)})
    dataset = VOCFolder(str(root))
    stats = statistics(dataset)
    assert stats == {"pool": {
        "images": 4, "unlabeled": 1, "unreadable": 1, "empty": 1, "boxes": 2, "difficult": 1, "crowd": 0, "classes": {"cat": 1, "dog": 1},  # noqa: E501
        "height": [40, 40, 40], "width": [60, 60, 60], "small": 1, "medium": 1, "large": 0}}  # fmt: skip
    table = format_statistics(dataset, stats).splitlines()
    assert table[0] == "photos: 2 classes"
    assert table[2].split() == ["images", "4"]
    assert table[-1].split() == ["dog", "1"]


def test_findings_are_listed_by_severity_and_counted_beyond_the_limit():
    findings = [Finding("info", "", "note", "none")] + [
        Finding("error", f"f{n}", "broken", "mend it") for n in range(3)
    ]
    lines = format_findings(findings, limit=2).splitlines()
    assert lines == ["error: f0: broken", "    -> mend it", "error: f1: broken", "    -> mend it",
                     "error: … and 1 more (--limit shows more)", "info: note", "    -> none"]  # fmt: skip
