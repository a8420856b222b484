"""A detector as a program of its own: ``train`` hashes what it is given, ``predict`` says what follows from that.

``--do`` makes it fail, or leave half of a file behind.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=("train", "predict"))
for name in ("labels", "model", "images", "out", "seed", "init", "do", "log", "device"):
    parser.add_argument(f"--{name}", default="")
args = parser.parse_args()
model = Path(args.model)

if args.log:  # who worked, and on what
    with open(args.log, "a") as stream:
        stream.write(f"{args.what} {os.getpid()} {args.images}\n")
if args.do == "fail":
    sys.stderr.write("CUDA error: no kernel image\n")
    sys.exit(3)
if args.do.startswith("slow"):
    time.sleep(float(args.do[4:]))

if args.what == "train":
    said = Path(args.labels).read_bytes() + args.seed.encode() + args.init.encode()
    if args.init and Path(args.init).is_file():
        said += Path(args.init).read_bytes()
    if args.do != "nothing":
        (model / "weights.txt" if model.is_dir() else model).write_text(hashlib.sha256(said).hexdigest())
    sys.exit(0)

state = (model / "weights.txt" if model.is_dir() else model).read_text()
rows = ["file,class,x1,y1,x2,y2,confidence"]
for line in Path(args.images).read_text().splitlines():
    name = Path(line).name
    draw = random.Random(f"{state} {name}")
    for _ in range(draw.randrange(5)):
        x, y = draw.uniform(0, 40), draw.uniform(0, 30)
        rows.append(f"{name},{draw.choice('abc')},{x},{y},{x + 15},{y + 15},{draw.random()}")
text = "\n".join(rows) + "\n"
if args.do == "half":
    text = text[: 2 * len(text) // 3].rpartition(",")[0]
if args.do == "json":
    text = json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.5}])[:30]
if args.do != "nothing":
    Path(args.out, "boxes.json" if args.do == "json" else "boxes.csv").write_text(text)
