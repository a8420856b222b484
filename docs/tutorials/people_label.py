# %% [markdown]
# # People label
#
# Nobody has labeled your photographs. The campaign asks for the labels it wants, ends, and goes on when they are there. Here a few lines of Python
# stand in for the people.

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

drawn = Shapes(data_dir="data", num_pool=40, num_val=8, num_test=8)
truth = drawn.image_path(drawn.pool_ids[0]).parents[1] / "Annotations"
Path("photos").mkdir(exist_ok=True)
for sample_id in drawn.pool_ids:
    shutil.copy(drawn.image_path(sample_id), "photos")

# %% [markdown]
# ## Ask
#
# Photographs without labels need the names of the classes. There is no test set here, so there will be no curve; put some labeled images beside the
# pool if you have them.

# %%
sh(
    "al-lab dataset=voc_folder dataset.root=photos 'dataset.classes=[circle,square,triangle,ring,cross,star]' dataset.test_split=none "
    "oracle=folder strategy=entropy detector=tiny trainer=tiny trainer.max_iters=20 trainer.milestones=[] trainer.warmup_iters=0 "
    "budget.initial=6 budget.per_cycle=4 budget.cycles=1 name=asked"
)

# %% [markdown]
# It says how many images wait for labels, and where: images, a list in rank order, class names and instructions lie in `to_label/` of the run folder.
#
# ## Answer
#
# Label with the tool you like and put its files into `labels/` there. Our stand-in copies the true boxes.


# %%
def answer() -> None:
    """Label everything that is asked for."""
    for asked in Path("outputs").glob("photos*/entropy/asked/seed0/to_label/*"):
        (asked / "labels").mkdir(exist_ok=True)
        for image in (asked / "images").iterdir():
            shutil.copy(truth / f"{image.stem}.xml", asked / "labels")


answer()

# %% [markdown]
# ## The same command again
#
# The labels are checked and taken over, a model is trained on them, and the next images are asked for, now with the model's own boxes as pre-labels to
# start from.

# %%
sh(
    "al-lab dataset=voc_folder dataset.root=photos 'dataset.classes=[circle,square,triangle,ring,cross,star]' dataset.test_split=none "
    "oracle=folder strategy=entropy detector=tiny trainer=tiny trainer.max_iters=20 trainer.milestones=[] trainer.warmup_iters=0 "
    "budget.initial=6 budget.per_cycle=4 budget.cycles=1 name=asked"
)

# %%
answer()

# %%
sh(
    "al-lab dataset=voc_folder dataset.root=photos 'dataset.classes=[circle,square,triangle,ring,cross,star]' dataset.test_split=none "
    "oracle=folder strategy=entropy detector=tiny trainer=tiny trainer.max_iters=20 trainer.milestones=[] trainer.warmup_iters=0 "
    "budget.initial=6 budget.per_cycle=4 budget.cycles=1 name=asked"
)

# %% [markdown]
# Finished. What was bought, for others to repeat with `strategy=replay`:

# %%
run = next(Path("outputs").glob("photos*/entropy/asked/seed0"))
print((run / "selections.json").read_text()[:400])
