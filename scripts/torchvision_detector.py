"""A detector with a program of its own, for detector=command_torchvision: copy it, and put your model in its place.

torchvision's RetinaNet on four small convolutions, from random weights; nothing of al_lab is imported.
"""

import argparse
import csv
import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.transforms.functional import pil_to_tensor


def network(num_classes: int, side_px: int) -> nn.Module:
    """Build the network; label 0 is nobody's."""
    widths = (3, 16, 32, 64, 64)
    layers = [(nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.ReLU()) for a, b in zip(widths, widths[1:])]  # noqa: B905
    body = nn.Sequential(*[layer for three in layers for layer in three])
    body.out_channels = widths[-1]
    anchors = AnchorGenerator(((16, 32, 64),), ((0.5, 1.0, 2.0),))
    return RetinaNet(body, num_classes + 1, min_size=side_px, max_size=side_px, anchor_generator=anchors)


def pixels(path: str) -> Tensor:
    """Read an image, (3, H, W) in [0, 1]."""
    return pil_to_tensor(Image.open(path).convert("RGB")) / 255


def train(args: argparse.Namespace) -> None:
    """Read COCO's labels, train, write the model."""
    torch.manual_seed(args.seed)
    document = json.loads(Path(args.labels).read_text())
    names = [c["name"] for c in sorted(document["categories"], key=lambda c: c["id"])]
    boxes = {i["id"]: [a for a in document["annotations"] if a["image_id"] == i["id"]] for i in document["images"]}
    model = network(len(names), args.side).to(args.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(args.steps):
        rows = [document["images"][k] for k in torch.randint(len(document["images"]), (args.batch,)).tolist()]
        images = [pixels(f"{args.data}/train/images/{r['file_name']}") for r in rows]
        xywh = [torch.tensor([a["bbox"] for a in boxes[r["id"]]]).reshape(-1, 4) for r in rows]
        labels = [torch.tensor([a["category_id"] for a in boxes[r["id"]]], dtype=torch.int64) for r in rows]
        truth = [{"boxes": torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1).to(args.device), "labels": c.to(args.device)}
                 for b, c in zip(xywh, labels)]  # fmt: skip  # noqa: B905
        loss = sum(model([image.to(args.device) for image in images], truth).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1} of {args.steps}: loss {loss.item():.4f}", flush=True)  # noqa: T201
    torch.save({"names": names, "side": args.side, "state": model.state_dict()}, args.checkpoint)


@torch.no_grad()
def predict(args: argparse.Namespace) -> None:
    """Write a table of boxes; one image at a time, so that no image's boxes depend on its neighbors."""
    saved = torch.load(args.checkpoint, weights_only=True)
    model = network(len(saved["names"]), saved["side"]).to(args.device).eval()
    model.load_state_dict(saved["state"])
    with open(args.out, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "class", "x1", "y1", "x2", "y2", "confidence"])
        for path in Path(args.images).read_text().splitlines():
            found = model([pixels(path).to(args.device)])[0]
            for box, label, score in zip(found["boxes"].tolist(), found["labels"], found["scores"].tolist()):  # noqa: B905
                table.writerow([Path(path).name, saved["names"][int(label) - 1], *box, score])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "predict"))
    for name in ("data", "labels", "images", "checkpoint", "out"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--device", default="cpu")
    for name, default in (("seed", 0), ("steps", 300), ("batch", 8), ("side", 160)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    (train if arguments.what == "train" else predict)(arguments)
