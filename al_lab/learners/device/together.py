"""Two optimizers that step as one, for an objective that trains a network of its own against the other."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class Together(torch.optim.Optimizer):
    """Several optimizers of different parameters as one: one step, one state, one list of groups, in their order.

    Args:
        parts: optimizers without a state yet.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let every part work on this one's groups and state, which loading a state replaces."""
        first = 0
        for part in self.parts:
            part.param_groups = self.param_groups[first : first + len(part.param_groups)]
            part.state = self.state
            first += len(part.param_groups)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `load_state_dict` read."""
        super().__setstate__(state)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step with all of them, after one look at the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
