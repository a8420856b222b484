# %% [markdown]
# # Segmentation across domains
#
# Drawn streets come with labels for free, photographs don't. Which few pixels of the photographs should be labeled? Here both domains are generated:
# a flat source, a textured, darker target.

# %% hide
import os
import subprocess
from pathlib import Path


def sh(command: str) -> None:
    """Run a command as a shell would, and stop if it fails."""
    print("$", command, flush=True)
    subprocess.run(command, shell=True, check=True)


# %% [markdown]
# ## Two strategies, the same budget
#
# In one training, interrupted by queries, each image's pixels are bought a few at a time. The numbers are tiny; `al-lab strategy=density
# dataset=streets` alone takes three minutes on two cores and means something.

# %%
sh(
    "al-lab -m strategy=random,density protocol=density dataset=streets seed=0 trainer.max_iters=40 trainer.stop_at=[6,8,10] trainer.warmup_iters=0 "
    "objective.stop_gradient_step=6 budget.cycles=2 dataset.num_source=12 dataset.num_pool=12 dataset.num_test=4 dataset.size_hw=[48,80] "
    "runtime.analyze_images=1 name=small"
)

# %% [markdown]
# ## One page
#
# How well bought pixels stand for the others, by class and in feature space, is measured after the last training (`runtime.analyze_images` images of the
# pool).

# %%
sh("al-lab report outputs/streets --images data --out streets-report")

# %% [markdown]
# ## Your own
#
# `dataset=segmentation_folder dataset.root=photos dataset.source=drawings`, where either folder has `images/train/`, `labels/train/` (gray or palette PNG, pixel =
# class id) and `classes.txt`: [`dataset`](../reference/config/dataset.md). Papers' pairs: `dataset=gtav_cityscapes`, `dataset=synthia_cityscapes`.
# What the methods do: [density](../methods/density.md), [RIPU](../methods/ripu.md).
