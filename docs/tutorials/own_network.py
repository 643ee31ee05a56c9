# %% [markdown]
# # Whitening in your own network
#
# This tutorial takes a small network and replaces its batch norms by whitening. It trains both networks on handwritten digits,
# recomputes the statistics for evaluation, and exports the result. It takes half a minute on two CPU cores.

# %% tags=["parameters"]
EPOCHS = 8

# %%
import tempfile
from copy import deepcopy
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from spectral_repro.layers import ZCAWhitening, convert, recalibrate

# %% [markdown]
# The images come with scikit-learn: 1,797 digits of 8 x 8 pixels, of which we keep 360 for the test.

# %%
pixels, labels = (torch.as_tensor(values) for values in load_digits(return_X_y=True))
images = pixels.float().view(-1, 1, 8, 8) / 16
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = order[:1437], order[1437:]


def make_network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


# %% [markdown]
# `convert` replaces every batch norm in place. It takes over weights, biases and running statistics, so a pretrained
# network computes what it computed before.

# %%
network = make_network().eval()
with torch.no_grad():
    before = network(images[:8])
    after = convert(network, ZCAWhitening)(images[:8])
torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-4)
print(network[1])


# %% [markdown]
# Three networks are trained in the same way, by SGD with momentum in batches of 64: with batch norm, with whitening, and with
# complete whitening, `shrinkage=0`. The default shrinks the covariance by 0.2 towards its diagonal, so it leaves some
# correlation.
#
# After every epoch each network is evaluated twice: with the running statistics as the training left them, and after
# `recalibrate`, which computes them again for the weights as they are now.


# %%
@torch.no_grad()
def accuracy(network):
    network.eval()
    return 100 * (network(images[test]).argmax(1) == labels[test]).float().mean().item()


def train_network(network):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    scores = []
    for _ in range(EPOCHS):
        network.train()
        for batch in train[torch.randperm(len(train), generator=generator)].split(64)[:-1]:
            loss = cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        recalibrated = recalibrate(deepcopy(network), images[train].split(64)[:20])
        scores.append((accuracy(network), accuracy(recalibrated)))
    return recalibrated, scores


options = {"batch norm": None, "whitening": {}, "complete whitening": {"shrinkage": 0.0}}
trained, scores = {}, {}
for name, chosen in options.items():
    torch.manual_seed(0)
    network = make_network()
    if chosen is not None:
        convert(network, ZCAWhitening, **chosen)
    trained[name], scores[name] = train_network(network)
    worst, last = min(before for before, after in scores[name]), scores[name][-1]
    print(f"{name:<18} as trained {last[0]:.1f} %, lowest {worst:.1f} %; after recalibrate {last[1]:.1f} %")

# %%
figure, panels = plt.subplots(1, 3, figsize=(9.6, 3.1), layout="constrained", sharey=True, label="Test accuracy by epoch")
for axes, (name, values) in zip(panels, scores.items(), strict=True):
    before, after = zip(*values, strict=True)
    axes.plot(range(1, EPOCHS + 1), before, "o--", label="as trained")
    axes.plot(range(1, EPOCHS + 1), after, "s-", label="after recalibrate")
    axes.set(title=name, xlabel="epoch")
panels[0].set_ylabel("test accuracy (%)")
panels[0].legend(frameon=False)

# %% [markdown]
# Statistics that were averaged during training lag behind the weights. Batch norm does not mind. Complete whitening does: it
# enlarges the smallest directions of the covariance, and these change fastest. The default shrinkage protects from most of
# it. Make it a habit to call `recalibrate` before you evaluate a whitened network.
#
# What whitening does is seen in the correlations between the 32 channels that the second norm layer puts out: they vanish
# within the two groups of 16 channels, and stay between them.

# %%
figure, panels = plt.subplots(1, 3, figsize=(9.6, 3.1), layout="constrained", label="Correlation of the channels")
for axes, (name, network) in zip(panels, trained.items(), strict=True):
    with torch.no_grad():
        channels = network[:5](images[train]).transpose(0, 1).flatten(1)
    picture = axes.imshow(torch.corrcoef(channels).numpy(), vmin=-1, vmax=1, cmap="PuOr")
    axes.set(title=name, xlabel="channel")
panels[0].set_ylabel("channel")
figure.colorbar(picture, ax=panels, label="correlation")

# %% [markdown]
# [Whitening](../whitening.md) describes the options and the pitfalls.
#
# A trained network is exported like any other, with a batch of any size.

# %%
batch = torch.export.Dim("batch")
program = torch.export.export(network, (images[:4],), dynamic_shapes=({0: batch},))
with tempfile.TemporaryDirectory() as folder:
    torch.export.save(program, Path(folder) / "digits.pt2")
    loaded = torch.export.load(Path(folder) / "digits.pt2").module()
with torch.no_grad():
    torch.testing.assert_close(loaded(images[test]), network(images[test]))
print("the exported network computes the same")
