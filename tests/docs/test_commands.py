"""Every command that README and docs/ show: campaigns compose, others parse, targets of make exist; keys named in
sentences exist."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from al_lab.cli import data, labels, select
from al_lab.cli.pages import leaderboard, lint, report
from al_lab.cli.tuning import density
from al_lab.config.checks import check_targets
from al_lab.config.load import CONF_DIR, compose
from scripts.docs_pages import tutorial_page, yaml_keys

ROOT = Path(__file__).parents[2]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
TEXTS = {str(p.relative_to(ROOT)): p.read_text() for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
TEXTS |= {f"docs/tutorials/{p.name}": tutorial_page(p) for p in sorted((ROOT / "docs" / "tutorials").glob("*.py"))}
OTHERS = ("source", "export", "pip", "jupytext", "git", "python", "cd")  # no commands of ours


def commands() -> dict[str, str]:
    """Each command once, with the page it is on."""
    found: dict[str, str] = {}
    for page, text in TEXTS.items():
        for block in re.findall(r"^ *```bash\n(.*?)^ *```", text, flags=re.S | re.M):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    found.setdefault(shlex.join(words), page)
    return found


COMMANDS = commands()


@pytest.fixture(scope="module")
def own_conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of docs/extending.md, where it says they go."""
    folder = tmp_path_factory.mktemp("own")
    for _, name, body in re.findall(r"```(python|yaml)\n# (\S+)\n(.*?)```", EXTENDING, flags=re.S):
        path = folder / name.replace("conf/", "my_conf/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    return folder


def jobs(overrides: list[str]) -> list[list[str]]:
    """The first and the last job of a sweep, and what Hydra composes before it looks at the sweep: all without its
    choices."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    choices = [
        [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override() else [o.input_line]
        for o in parsed
    ]
    every = list(itertools.product(*choices))
    if len(every) == 1:
        return [list(every[0])]
    return [list(every[0]), list(every[-1]), [o.input_line for o in parsed if not o.is_sweep_override()]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[:80])
def test_command_is_one(command, own_conf, monkeypatch, tmp_path):
    program, *words = shlex.split(command)
    monkeypatch.chdir(tmp_path)
    if program == "make":
        target = next(w for w in words if "=" not in w)
        assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), flags=re.M), COMMANDS[command]
        return
    if program != "al-lab":
        assert program in OTHERS, f"{COMMANDS[command]}: {command}"
        return
    if words[:1] in (["report"], ["leaderboard"]):
        of = report if words[0] == "report" else leaderboard
        assert of.main(words[1:]) == 2  # understood; there are no runs here
        return
    if words[:1] == ["data"]:
        arguments = data._parser().parse_args(words[1:])
        words = list(getattr(arguments, "overrides", []))
    if words[:1] == ["tune-density"]:
        density._parser().parse_args(words[1:])
        return
    if words[:1] == ["labels"]:
        words = list(labels._parser().parse_args(words[1:]).overrides)
    if words[:1] == ["select"]:
        words = list(select._parser().parse_intermixed_args(words[1:]).overrides)
    if words[:1] == ["lint"]:
        words = list(lint._parser().parse_intermixed_args(words[1:]).overrides)
    if words[:1] in (["doctor"], ["--help"]):
        return
    if words[:1] == ["estimate"]:
        words = words[1:]
    overrides = [w for w in words if "=" in w]
    if "--config-dir" in words:
        assert words[words.index("--config-dir") + 1] == "my_conf"
        overrides.insert(0, f"hydra.searchpath=[file://{own_conf / 'my_conf'}]")
        monkeypatch.syspath_prepend(str(own_conf))
    assert set(words) - set(overrides) <= {"-m", "--cfg", "job", "--resolve", "--config-dir", "my_conf"}
    for job in jobs(overrides):
        config = compose([o for o in job if not o.startswith(("hydra/launcher", "hydra.launcher"))])
        check_targets({k: v for k, v in config.items() if k != "choices"})


# --- keys in sentences ------------------------------------------------------------------------------------------------

GROUPS = {p.name for p in CONF_DIR.iterdir() if p.is_dir()} - {"hydra"}
KEYS = {
    group: {k.name for path in (CONF_DIR / group).rglob("*.yaml") for k in yaml_keys(path.read_text())}
    for group in GROUPS
}


def named() -> set[tuple[str, str]]:
    """Overrides that stand in sentences and tables, with their page."""
    return {
        (page, word)
        for page, text in TEXTS.items()
        for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        for word in span.split()
        if re.fullmatch(r"[a-z]+([./][\w.@/]+)?=[^=]*", word) and re.split(r"[./=]", word)[0] in GROUPS
    }


@pytest.mark.parametrize(("page", "word"), sorted(named()), ids=str)
def test_key_exists(page, word):
    key, _, value = word.partition("=")
    if "." not in key:
        group = key.partition("@")[0]  # group@package
        own = re.findall(rf"# conf/{group}/(\w+)\.yaml", EXTENDING)
        options = {str(p.relative_to(CONF_DIR / group).with_suffix("")) for p in (CONF_DIR / group).rglob("*.yaml")}
        assert all(v in options | {"", "X", "Y", "null", "…", "OPTION", *own} for v in value.split(",")), (
            f"{page}: {word}"
        )
        return
    group, _, rest = key.partition(".")
    prefixes = {k.rsplit(".", n)[0] for k in KEYS[group] for n in range(k.count(".") + 1)} | KEYS[group]
    known = rest in prefixes or rest.startswith(("options.", "augmentation.")) or group == "experiment"
    assert known, f"{page}: {word}"
