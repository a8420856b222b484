# %% [markdown]
# # A cluster
#
# Every training, scoring and table row is a job that can run elsewhere. Where it runs changes nothing that is selected, so a campaign may begin on your
# desk and go on in a cluster.

# %% hide
import os
import subprocess
from pathlib import Path


def sh(command: str) -> None:
    """Run a command as a shell would, and stop if it fails."""
    print("$", command, flush=True)
    subprocess.run(command, shell=True, check=True)


# %% [markdown]
# ## The same path, without a cluster
#
# `executor.cluster=local` goes through submitit as on SLURM, with processes of this machine: what fails here would fail there.

# %%
sh(
    "al-lab strategy=entropy dataset=shapes debug=smoke executor=slurm executor.cluster=local executor.poll_seconds=1 budget.cycles=1 name=cluster"
)

# %%
run = Path("outputs/debug/shapes/entropy/cluster/seed0")
assert (run / "report.html").is_file()
print((run / "metrics.csv").read_text())

# %% [markdown]
# ## SLURM
#
# From a login node, in a folder that all nodes see, inside tmux or as a small job of its own:
#
# ```bash
# al-lab strategy=entropy dataset=voc executor=slurm +executor.options.slurm_partition=gpu
# ```
#
# Trainings are array tasks with one GPU each (`executor.options.gpus_per_node`), tried again when a node dies. If the command itself is cut off, give it again: it waits for
# the jobs that are still there. A whole sweep, one campaign a task:
#
# ```bash
# al-lab -m strategy=random,entropy seed=0,1,2 dataset=voc protocol=mgral hydra/launcher=cluster hydra.launcher.partition=gpu
# ```
#
# ## Ray
#
# `executor=ray executor.address=auto` joins a running Ray cluster; without an address Ray starts here. All keys: [`executor`](../reference/config/executor.md).
