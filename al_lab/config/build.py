"""From a config node to the object it describes."""

from collections.abc import Mapping
from typing import Any

from al_lab.core.errors import LabError


def build(node: Mapping[str, Any], **runtime: Any) -> Any:
    """Build the object a config node describes.

    Args:
        node: a plain mapping with ``_target_``.
        runtime: arguments that only the running program knows, such as ``num_classes``.

    Raises:
        LabError: what the constructor raised itself, without Hydra's wrapping.
    """
    from hydra.errors import InstantiationException  # noqa: PLC0415
    from hydra.utils import instantiate  # noqa: PLC0415

    try:
        return instantiate(dict(node), _convert_="all", **runtime)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LabError | OSError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from cause.__cause__
        raise
