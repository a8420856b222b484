"""Where the embedding of an image comes from: the campaign's model, a file, or a network pretrained elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from al_lab.core.errors import ConfigError, WeightsError, did_you_mean, explain
from al_lab.core.fields import at_least, optional, text

_KEYS = ("backbone", "weights", "input_px")
_WHERE = "embedding"


@dataclass(frozen=True)
class EmbeddingSource:
    """What ``embedding=…`` says.

    Attributes:
        kind: ``file``: an .npz with ``images`` and ``embedding``; ``objects``: the mean over the boxes the campaign's
            detector finds, weighted by their confidence; ``backbone``: a classifier's features.
        path: of the file.
        backbone: as torchvision or timm calls it.
        weights: of the backbone: a file, ``torchvision://name`` or a URL; None: torchvision's for this name.
        input_px: side of the square to which images are resized for it.
    """

    kind: Literal["file", "objects", "backbone"]
    path: str = ""
    backbone: str = ""
    weights: str | None = None
    input_px: int = 224

    @classmethod
    def read(cls, value: Any) -> "EmbeddingSource | None":
        """Read the configuration's key; None: the model's own embedding.

        Raises:
            ConfigError: for what is none of the forms.
        """
        if value is None:
            return None
        if value == "objects":
            return cls("objects")
        if isinstance(value, str) and value:
            return cls("file", path=value) if value.endswith(".npz") else cls("backbone", backbone=value)
        if not isinstance(value, Mapping) or not value.get("backbone"):
            do = "e.g. embedding=vectors.npz, embedding=objects, embedding=resnet18 or "
            do += "'embedding={backbone: resnet18, weights: resnet18.pth}'"
            raise ConfigError(explain(expected="a file, objects or a backbone", got=repr(value), where=_WHERE, do=do))
        for key in value:
            if key not in _KEYS:
                do = did_you_mean(str(key), _KEYS)
                raise ConfigError(explain(expected="a key of embedding", got=repr(key), where=f"{_WHERE}.{key}", do=do))
        return cls(
            "backbone",
            backbone=text(value["backbone"], f"{_WHERE}.backbone", "e.g. resnet18"),
            weights=optional(text)(value.get("weights"), f"{_WHERE}.weights", "a file, torchvision://name or null"),
            input_px=at_least(32)(value.get("input_px", 224), f"{_WHERE}.input_px", do="224 is what most learned at"),
        )

    def check_file(self) -> None:
        """Refuse a file that should be there and is not.

        Raises:
            WeightsError: naming it.
        """
        source = self.path if self.kind == "file" else self.weights or ""
        is_file = source and "://" not in source and not source.startswith("torchvision:")
        if is_file and not Path(source).expanduser().is_file():
            do = "put it there, or give another one"
            raise WeightsError(explain(expected="a file", got="no such file", where=f"embedding: {source}", do=do))


def no_objects(expected: str, got: str) -> ConfigError:
    """Return the error of ``embedding=objects`` where nothing finds objects that have embeddings."""
    do = "give a file (embedding=vectors.npz) or a backbone (embedding=resnet18)"
    return ConfigError(explain(expected=f"{expected}, for embedding=objects", got=got, where=_WHERE, do=do))
