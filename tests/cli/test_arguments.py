"""What a person types is put in Hydra's form, or refused with a sentence."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from al_lab.cli.arguments import arranged
from al_lab.core.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("strategy=random -m seed=0,1", "-m strategy=random seed=0,1"),
        ("seed=0 --config-dir mine --cfg job --resolve seed=1", "--config-dir mine --cfg job --resolve seed=0 seed=1"),
        ("--config-dir=mine --info plugins seed=0", "--config-dir=mine --info plugins seed=0"),
        ("--info seed=0", "--info seed=0"),
        ("+a=1 ++b=2 ~c ~d=3 strategy@x=random", "+a=1 ++b=2 ~c ~d=3 strategy@x=random"),
        ("hydra.mode=MULTIRUN seed=0,1", "hydra.mode=MULTIRUN seed=0,1"),
        # Hydra composes a sweep once with the default strategy: a key of another protocol's option waits for its job
        ("objective.class_weights=[1,4]", "objective.class_weights=[1,4]"),  # no file of weights
        ("-m objective.tau=0.5 +trainer.x=1 runtime.x=2", "-m ++objective.tau=0.5 +trainer.x=1 runtime.x=2"),
    ],
)
def test_flags_come_first(typed, read):
    assert arranged(typed.split()) == read.split()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("foo", "expected key=value, got 'foo'; --help shows the keys"),
        ("entropy", "got 'entropy'; write strategy=entropy"),
        ("strategy entropy", "got 'strategy'; write strategy=entropy"),
        ("trainer.lr 0.1", "write trainer.lr=0.1"),
        ("strategy", "write strategy=…; choose one of: "),
        ("-strategy=random", "expected key=value, or a flag, got '-strategy=random'; write strategy=random"),
        ("--seed=1", "write seed=1"),
        ("--foo", "got '--foo'; settings are key=value, without dashes"),
        ("--multi-run", "did you mean --multirun?"),
        ("--entropy", "write strategy=entropy"),
        ("strategy=random,entropy", "strategy: expected one value, got several (random,entropy); add -m"),
        ("trainer.lr=[1", "trainer.lr: expected a value, got '[1'; write trainer.lr='[1'"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(typed, sentence):
    with pytest.raises(ConfigError) as caught:
        arranged(typed.split())
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


PATHS = [
    "outputs/shapes/entropy/budget.initial=6,debug=smoke/seed0/selections.json",
    "a=b", "a,b", "it's/here", "back\\slash\\", "\\'", " spaces ", "~/photos", "{a}/(b)/[c]", "2024", "1e5", "ü/ö", 'say "x"',  # noqa: E501
    "a#b;c&d|e>f", "line\nbreak", "$HOME/x", "100%", "~x/y", "runs~190cee00", "a:b", "-minus", "*?",
]  # fmt: skip


@pytest.mark.parametrize("key", ["strategy.path", "dataset.root", "trainer.init", "+detector.weights", "oracle.folder"])
@pytest.mark.parametrize("path", PATHS)
def test_any_path_can_be_given(path, key):
    (word,) = arranged([f"{key}={path}"])
    assert OverridesParser.create().parse_override(word).value() == path


def test_a_path_in_any_key_and_a_sweep_of_paths(tmp_path):
    assert arranged(["mine.list=x=1/y.txt"]) == ["mine.list='x=1/y.txt'"]
    assert arranged(["-m", "dataset.root=a,b"]) == ["-m", "++dataset.root=a,b"]
    folder = tmp_path / "a,b"
    folder.mkdir()
    assert arranged(["-m", f"dataset.root={folder}"]) == ["-m", f"++dataset.root='{folder}'"]


def test_what_is_no_path_stays_as_it_is():
    typed = [
        "trainer.init=null",
        "dataset.root='a b'",
        'dataset.root="a,b"',
        "dataset.root=${oc.env:HOME}/x",
        "x.root=[1]",
    ]
    assert arranged(typed) == [*typed[:-1], "x.root='[1]'"]
