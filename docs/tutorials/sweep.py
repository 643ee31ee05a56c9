# %% [markdown]
# # From a sweep to a figure
#
# This tutorial trains whitening layers of several group sizes on handwritten digits with one command, loads all runs as a
# pandas frame, and draws accuracy against group size with matplotlib. It takes about a minute on two CPU cores.

# %% tags=["parameters"]
GROUP_SIZES = "2,4,8,16"
SEEDS = "0,1"
EPOCHS = 6
IMAGES = 1437

# %%
import subprocess
import sys
import tempfile

import matplotlib.pyplot as plt

from spectral_repro.reporting import load_curves, load_runs

# %% [markdown]
# `-m` makes every combination of the values that are separated by commas. In a shell the command is
#
#     python -m spectral_repro.train -m norm=zca norm.group_size=2,4,8,16 seed=0,1 dataset=digits results_dir=FOLDER ...
#
# It prints a table at its end. The same command again does only what is missing. `trainer.recalibrate_batches=20` computes the
# running statistics again before the network is evaluated, as in [the first tutorial](own_network.md).

# %%
folder = tempfile.TemporaryDirectory()
shared = ["dataset=digits", "model.width=8", "model.stem_channels=16", "logger=none", f"results_dir={folder.name}"]
shared += [f"seed={SEEDS}", f"trainer.epochs={EPOCHS}", f"dataset.train_images={IMAGES}", "trainer.recalibrate_batches=20"]


def train(*choices):
    subprocess.run([sys.executable, "-m", "spectral_repro.train", "-m", *choices, *shared], check=True, capture_output=True)


train("norm=zca", f"norm.group_size={GROUP_SIZES}")
train("norm=batch")

# %% [markdown]
# `load_runs` gives one row for each run: every key of its configuration, the last metrics, and where and when it ran.

# %%
runs = load_runs(folder.name).sort_values(["norm._target_", "norm.group_size", "seed"])
shown = ["norm._target_", "norm.group_size", "seed", "state", "test_accuracy", "smallest_gap"]
print(runs[shown].round(3).to_string(index=False))

# %%
scores = runs.groupby("norm.group_size").test_accuracy.agg(["mean", "min", "max"])
reference = runs[runs["norm._target_"].str.contains("BatchNorm")].test_accuracy.mean()
curves = load_curves(folder.name).merge(runs[["run", "norm.group_size"]], on="run")

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained", label="Accuracy by group size and epoch")
left.plot(scores.index, scores["mean"], "o-", label="whitening, mean and range")
left.vlines(scores.index, scores["min"], scores["max"])
left.axhline(reference, color="grey", linestyle="--", label="batch norm")
left.set(xlabel="group size", ylabel="test accuracy (%)", xscale="log")
left.set_xticks(scores.index, [f"{size:g}" for size in scores.index])
left.minorticks_off()
styles = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), ":")
for (size, frame), style in zip(curves.groupby("norm.group_size", dropna=False), styles, strict=False):
    mean = frame.groupby("epoch").train_loss.mean()
    right.plot(mean.index, mean, linestyle=style, label="batch norm" if size != size else f"d = {size:g}")
right.set(xlabel="epoch", ylabel="training loss")
for axes in (left, right):
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)

# %% [markdown]
# Two seeds of a small network do not decide which group size is best: look at the range. `python -m spectral_repro.report
# compare=[norm,norm.group_size] runs=FOLDER` makes the same figure with intervals, a table with paired differences, and a page:
# see [Comparing your own runs](../comparing.md).

# %%
assert set(runs.state) == {"finished"} and len(scores) == len(GROUP_SIZES.split(","))
folder.cleanup()
