"""The objects of a campaign, each built once: the checks and the campaign itself ask for the same ones."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from al_lab.config.build import build
from al_lab.core.budget import Budget
from al_lab.core.errors import ConfigError, LabError, explain
from al_lab.core.oracle import Oracle
from al_lab.core.strategy import Strategy


class Parts:
    """What a resolved configuration describes; a part is built when it is first asked for, and then kept.

    Attributes:
        config: resolved, as plain containers.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def change(self, config: Mapping[str, Any]) -> None:
        """Take another configuration of the trainer; what was built of the others is kept."""
        if config != self.config:
            self.config = config
            self.__dict__.pop("settings", None)

    @cached_property
    def budget(self) -> Budget:
        """How much is bought, and when."""
        return self.build("budget")

    @cached_property
    def dataset(self) -> Any:
        """The images; a generated dataset is drawn now if it never was."""
        return build(self.config["dataset"])

    @cached_property
    def settings(self) -> Any:
        """The recipe of a training (an augmentation needs torch)."""
        return self.build("trainer")

    @cached_property
    def strategy(self) -> Strategy:
        """What is bought next."""
        return self.build("strategy")

    @cached_property
    def oracle(self) -> Oracle:
        """Who knows the labels."""
        return self.build("oracle")

    @cached_property
    def objective(self) -> Any:
        """What a training minimizes; None for a model that brings its own training."""
        return self.build("objective") if self.config.get("objective") else None

    @cached_property
    def executor(self) -> Any:
        """Where jobs run."""
        return self.build("executor")

    def build(self, group: str, node: Mapping[str, Any] | None = None, **runtime: Any) -> Any:
        """Build a group of the configuration (or ``node`` in its stead); it is not kept.

        Raises:
            LabError: of the object itself, or naming the group if its constructor raised anything else.
        """
        node = self.config[group] if node is None else node
        try:
            return build(node, **runtime)
        except (LabError, OSError):
            raise
        except Exception as error:  # constructors of torch, mmdet and the user raise what they like
            cause = error.__cause__ or error
            raise ConfigError(
                explain(
                    expected=f"arguments that {node['_target_']} can be built with",
                    got=f"{type(cause).__name__}: {cause}",
                    where=group,
                    do=f"correct {group}.… (HYDRA_FULL_ERROR=1 shows where it failed)",
                )
            ) from error
