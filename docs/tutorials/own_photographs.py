# %% [markdown]
# # Own photographs
#
# You have a folder of photographs with boxes in VOC format and want to know which strategy would have chosen well. Here the folder is
# made of generated images, so that everything below can be run; put yours in its place.

# %% hide
import os
import subprocess
from pathlib import Path


def sh(command: str) -> None:
    """Run a command as a shell would, and stop if it fails."""
    print("$", command, flush=True)
    subprocess.run(command, shell=True, check=True)


# %%
import shutil

from al_lab.data.generated.shapes import Shapes

drawn = Shapes(data_dir="data", num_pool=60, num_val=8, num_test=24)
shutil.copytree(drawn.image_path(drawn.pool_ids[0]).parents[1], "photos", dirs_exist_ok=True)

# %% [markdown]
# The layout: photographs in `JPEGImages/`, boxes in `Annotations/`, lists of names in `ImageSets/Main/`, class names in `classes.txt`. Lists and
# classes may be missing, see [`dataset=voc_folder`](../reference/config/dataset.md).
#
# ## Check it
#
# Every image and annotation is looked at; each problem is named with its file and what to do.

# %%
sh("al-lab data verify dataset=voc_folder dataset.root=photos")

# %%
sh("al-lab data stats dataset=voc_folder dataset.root=photos")

# %% [markdown]
# ## Run a campaign
#
# Ten labeled images, then ten more in each of two cycles, chosen by entropy. `detector=tiny` trains in seconds; leave it out for a detector
# on ImageNet features, and leave `trainer.max_iters` and its milestones out for a training that means something.

# %%
sh(
    "al-lab dataset=voc_folder dataset.root=photos strategy=entropy detector=tiny trainer=tiny "
    "trainer.max_iters=20 trainer.milestones=[] trainer.warmup_iters=0 "
    "budget.initial=10 budget.per_cycle=10 budget.cycles=2 name=first"
)

# %% [markdown]
# The same command again does nothing: it is finished. With `budget.cycles=3` it goes on. Everything of the run, with the page `report.html`, is in
# one folder.

# %%
run = next(Path("outputs").glob("photos*/entropy/first/seed0"))
print((run / "metrics.csv").read_text())
assert (run / "report.html").is_file()

# %% [markdown]
# Next: is entropy better than chance? [Compare strategies](compare_strategies.md).
