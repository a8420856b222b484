# %% [markdown]
# # Compare strategies
#
# One strategy on its own tells nothing: the question is whether it beats picking at random, and seeds differ. So: the same protocol, the same initial
# set, several seeds, and the random line.

# %% hide
import os
import subprocess
from pathlib import Path


def sh(command: str) -> None:
    """Run a command as a shell would, and stop if it fails."""
    print("$", command, flush=True)
    subprocess.run(command, shell=True, check=True)


# %% [markdown]
# ## A sweep
#
# Comma-separated values and `-m` make one campaign of each combination, two at a time. The numbers are tiny, so that this page runs in minutes; leave
# everything from `trainer.max_iters` on out for the real thing, and take three seeds or more.

# %%
sh(
    "al-lab -m strategy=random,entropy seed=0,1 protocol=mgral dataset=shapes runtime.cache_dir=outputs/.cache "
    "trainer.max_iters=20 trainer.milestones=[] trainer.warmup_iters=0 "
    "budget.initial=10 budget.per_cycle=10 budget.cycles=1 dataset.num_pool=60 dataset.num_val=8 dataset.num_test=24 name=small"
)

# %% [markdown]
# `runtime.cache_dir` lets strategies share their first training, which is the same for all of them. A failed campaign does not stop the others; the
# table at the end says how each of them ended, and the same command runs what is missing.
#
# ## One page

# %%
sh("al-lab report outputs/shapes/random outputs/shapes/entropy --images data --out comparison")

# %% [markdown]
# `--images data` lets the page show images of that folder. `comparison/` has the page, its figures as PNG and PDF, and its tables as CSV and LaTeX. Read its first sentence first: it says whether these seeds can
# tell the strategies apart at all. How to read the rest: [the report](../howto/report.md).

# %%
print(*sorted(str(p) for p in Path("comparison").rglob("*") if p.is_file()), sep="\n")
