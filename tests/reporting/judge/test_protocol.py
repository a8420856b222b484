import pytest

from al_lab.core.errors import DataError
from al_lab.reporting.judge.protocol import (
    baseline,
    check_one_protocol,
    fingerprint,
    full_data,
    group_runs,
    no_labels,
    reference,
    same_protocol,
)
from al_lab.reporting.read.find import read_run


def test_strategy_seed_and_machine_may_differ(maker):
    a = read_run(maker.run("entropy", 0, tracker={"_target_": "x"}))
    b = read_run(maker.run("random", 1, dataset__root="/elsewhere", runtime={"outputs_dir": "o", "devices": 4}))
    assert fingerprint(a) == fingerprint(b)
    check_one_protocol([a, b])


def test_more_cycles_are_the_same_protocol(maker):
    assert same_protocol(read_run(maker.run("entropy", cycles=3)), read_run(maker.run("random", cycles=2)))


def test_other_settings_are_refused_by_name(maker):
    a, b = read_run(maker.run("entropy")), read_run(maker.run("random", trainer__lr=0.5, budget__per_cycle=5))
    with pytest.raises(
        DataError, match=r"one protocol.*budget.per_cycle: 20 against 5; trainer.lr: 0.01 against 0.5.*protocol="
    ) as error:
        check_one_protocol([a, b])
    assert str(b.path) in str(error.value)


def test_full_data_may_differ_in_its_budget_only(maker):
    a, full = read_run(maker.run("entropy")), read_run(maker.run("random", 0, 0, name="full", initial=1.0))
    check_one_protocol([full, a])
    other = read_run(maker.run("random", 1, 0, name="full", initial=1.0, trainer__lr=0.5))
    with pytest.raises(DataError, match=r"trainer.lr"):
        check_one_protocol([a, full, other])


def test_series_are_strategies_with_random_and_full_data_last(maker):
    made = [maker.run("random", s) for s in (1, 0)] + [
        maker.run("random", 0, 0, name="full", initial=1.0),
        maker.run("entropy", 0),
    ]
    series = group_runs([read_run(p) for p in made])
    assert [s.label for s in series] == ["entropy", "random", "full data"]
    assert series[1].seeds == (0, 1)


def test_variants_of_a_strategy_stay_apart(maker):
    made = [read_run(maker.run("entropy", name=n)) for n in ("default", "strategy.aggregation=sum")]
    assert [s.label for s in group_runs(made)] == ["entropy (default)", "entropy (strategy.aggregation=sum)"]


def test_two_runs_of_one_seed_are_refused(maker):
    a = maker.run("entropy", 0)
    b = maker.root / "copy" / "entropy" / "default" / "seed0"
    b.parent.mkdir(parents=True)
    a.rename(b)
    with pytest.raises(DataError, match="two with seed 0.*leave one of them out"):
        group_runs([read_run(b), read_run(maker.run("entropy", 0))])


def csd(maker, strategy="random", name="objective=csd", seed=0, **changes):
    return maker.run(strategy, seed, name=name, **{"objective___target_": "al_lab.objectives.csd.CSD", **changes})


def read(paths):
    return [read_run(p) for p in paths]


def test_objectives_are_compared_and_named(maker):
    runs = read(
        [
            csd(maker),
            maker.run("random"),
            csd(maker, "al_ssl", "default"),
            maker.run("random", 0, 0, name="full", initial=1.0),
        ]
    )
    check_one_protocol(runs)
    assert [s.label for s in group_runs(runs)] == [
        "al_ssl (csd)",
        "random (supervised)",
        "random (csd)",
        "full data (supervised)",
    ]


def test_what_a_strategy_brings_into_the_detector_is_compared_and_named(maker):
    runs = read(
        [
            maker.run("random", detector__branches=[], detector__dropout=None),
            maker.run("ll4al", detector__branches=["learning_loss"], detector__dropout=None),
            maker.run("random", name="control", detector__branches=["learning_loss"], detector__dropout=None),
            maker.run("mc_dropout", detector__branches=[], detector__dropout={"p": 0.1}),
        ]
    )
    check_one_protocol(runs)
    assert [s.label for s in group_runs(runs)] == [
        "ll4al (branches=learning_loss)",
        "mc_dropout (p=0.1)",
        "random",
        "random (branches=learning_loss)",
    ]
    with pytest.raises(DataError, match="the detector's branches and dropout, seed"):
        check_one_protocol([*runs, read_run(maker.run("random", name="large", detector__input_px=300))])


def test_lines_are_named_by_the_options_that_set_them_apart(maker):
    runs = read(
        [
            maker.run("al_ssl", name=f"rule={rule}", strategy__rule=rule, strategy__path=f"/x/{rule}")
            for rule in ("product", "inconsistency")
        ]
        + [maker.run("random")]
    )
    assert [s.label for s in group_runs(runs)] == ["al_ssl (rule=inconsistency)", "al_ssl (rule=product)", "random"]
    runs += read(
        [csd(maker, "al_ssl", f"tau={tau}", objective__tau=tau, strategy__rule="product") for tau in (0.5, 0.99)]
    )
    assert [s.label for s in group_runs(runs)] == [
        "al_ssl (supervised, rule=inconsistency)",
        "al_ssl (supervised, rule=product)",
        "al_ssl (csd, tau=0.5, rule=product)",
        "al_ssl (csd, tau=0.99, rule=product)",
        "random (supervised)",
    ]


def test_other_settings_are_compared_on_purpose_only(maker):
    runs = read([maker.run("random"), csd(maker, trainer__batch_size=16)])
    with pytest.raises(DataError, match=r"trainer.batch_size: \(absent\) against 16.*--across trainer.batch_size"):
        check_one_protocol(runs)
    check_one_protocol(runs, ["trainer.batch_size"])
    assert [s.label for s in group_runs(runs, ["trainer.batch_size"])] == [
        "random (supervised)",
        "random (csd, batch_size=16)",
    ]
    with pytest.raises(DataError, match="--across: expected a setting below.*got nonsense"):
        check_one_protocol(runs, ["nonsense"])


def test_the_supervised_random_line_is_the_baseline(maker):
    series = group_runs(
        read(
            [
                csd(maker),
                csd(maker, seed=1),
                maker.run("random"),
                csd(maker, name="full,csd", cycles=0, initial=1.0),
                maker.run("random", 0, 0, name="full", initial=1.0),
            ]
        )
    )
    assert baseline(series).label == "random (supervised)"
    assert full_data(series).label == "full data (supervised)"
    only_csd = [s for s in series if "csd" in s.label]
    assert baseline(only_csd).label == "random (csd)"
    assert baseline(only_csd[:0]) is None


def budget(maker, strategy, choice, seed=0, **changes):
    name = changes.pop("name", f"budget={choice}")
    return maker.run(strategy, seed, name=name, choices={"strategy": strategy, "budget": choice}, **changes)


def test_budgets_are_compared_on_purpose_each_with_its_own_random_line(maker):
    runs = read(
        [budget(maker, s, "large") for s in ("entropy", "random")]
        + [budget(maker, s, "small", budget__per_cycle=2) for s in ("margin", "random")]
        + [budget(maker, "core_set", "regions", budget__unit="region")]
    )
    lines = {s.label: s for s in group_runs(runs, ["budget"])}
    assert list(lines) == [
        "core_set (regions)",
        "entropy (large)",
        "margin (small)",
        "random (large)",
        "random (small)",
    ]
    against = {label: reference(s, list(lines.values())).label for label, s in lines.items()}
    assert against == {
        "core_set (regions)": "random (large)",
        "entropy (large)": "random (large)",
        "margin (small)": "random (small)",
        "random (large)": "random (large)",
        "random (small)": "random (small)",
    }


def test_one_file_with_two_settings_names_no_budget(maker):
    runs = read(
        [
            budget(maker, "entropy", "large"),
            budget(maker, "entropy", "large", name="other", budget__per_cycle=2),
            maker.run("random"),
        ]
    )
    assert [s.label for s in group_runs(runs, ["budget"])] == [
        "entropy (per_cycle=2)",
        "entropy (per_cycle=20)",
        "random (per_cycle=20)",
    ]


def test_a_training_without_labels_is_no_curve(maker):
    runs = read(
        [
            maker.run("random", 0, 0, name="source_only", initial=0, budget__per_cycle=1),
            maker.run("random"),
            maker.run("entropy"),
            maker.run("random", 0, 0, name="full", initial=1.0),
        ]
    )
    check_one_protocol(runs)
    series = group_runs(runs)
    assert [s.label for s in series] == ["entropy", "random", "full data", "no target label"]
    assert no_labels(series).runs[0].name == "source_only" and full_data(series).label == "full data"
