"""``conf/`` lies beside the package in a checkout and inside it in a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """Copy ``conf/`` to ``al_lab/conf``, without the git-ignored values of one machine."""

    def run(self) -> None:  # noqa: D102
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "al_lab" / "conf"
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree("conf", target, ignore=shutil.ignore_patterns("local"))


setup(cmdclass={"build_py": BuildWithConf})
