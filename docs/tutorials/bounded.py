# %% [markdown]
# # Bounding the convolutions of a network
#
# A convolution with a large singular value amplifies small changes of its input. This tutorial takes a network of torchvision,
# trains it a little on handwritten digits, bounds the largest singular value of every convolution by 1 with `bounded_norm`,
# trains on, and exports a network of plain `nn.Conv2d`. It takes about a minute on two CPU cores.

# %% tags=["parameters"]
EPOCHS = 3
IMAGES = 1437
ITERATIONS = 100

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from torchvision.models.resnet import BasicBlock, ResNet

from spectral_repro.constraints.operators import operators
from spectral_repro.layers import export
from spectral_repro.layers.parametrizations import bounded_norm
from spectral_repro.linalg import conv_power_iteration

# %%
pixels, labels = (torch.as_tensor(values) for values in load_digits(return_X_y=True))
images = interpolate(pixels.float().view(-1, 1, 8, 8) / 16, size=32, mode="bilinear").expand(-1, 3, -1, -1)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = order[:IMAGES], order[1437:]


def train_network(network, lr):
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    network.train()
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(48):
            loss = cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(network):
    network.eval()
    return 100 * (network(images[test]).argmax(1) == labels[test]).float().mean().item()


# %% [markdown]
# A ResNet of four blocks. In your own work this is a pretrained network, such as `resnet18(weights="DEFAULT")`.

# %%
torch.manual_seed(0)
network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
train_network(network, lr=0.05)
print(f"{accuracy(network):.1f} % of the test images are right")

# %% [markdown]
# The singular values of a convolution depend on the size of its input. `operators` runs the network once and notes, for each
# layer, the size that it sees. Power iterations with the layer as it is, padding included, find the largest singular value.


# %%
def largest_values(network):
    values = {}
    for operator in operators(network, image_shape=(3, 32, 32)):
        if isinstance(operator.layer, nn.Conv2d):
            start = operator.random_input(torch.Generator().manual_seed(0))
            largest, _ = conv_power_iteration(operator.weight, start, **operator.padded, iterations=ITERATIONS)
            values[operator.name] = largest.item()
    return values


before = largest_values(network)
for name, value in before.items():
    print(f"{name:<22} {value:.2f}")

# %% [markdown]
# `bounded_norm` makes the weight $w / \max(1, \sigma / c)$, where $\sigma$ is the largest singular value, found by power
# iteration. The layers stay `nn.Conv2d`. Dividing the weights changes what the batch norms see, so we train on.

# %%
for operator in operators(network, image_shape=(3, 32, 32)):
    if isinstance(operator.layer, nn.Conv2d):
        bounded_norm(operator.layer, operator.size, bound=1.0)
print(f"{accuracy(network):.1f} % right after bounding")
train_network(network, lr=0.01)
print(f"{accuracy(network):.1f} % right after as many epochs with the bound")

# %% [markdown]
# `export` gives a copy in which every convolution is a plain `nn.Conv2d` with the bounded kernel. It can be saved, compiled and
# loaded without spectral_repro.

# %%
plain = export(network.eval())
after = largest_values(plain)
with torch.no_grad():
    torch.testing.assert_close(plain(images[test]), network(images[test]), rtol=1e-4, atol=1e-4)
assert not [module for module in plain.modules() if hasattr(module, "parametrizations")]
print(f"largest singular value of any convolution: {max(before.values()):.2f} before, {max(after.values()):.2f} after")

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained", label="Largest singular value of each convolution")
positions = range(len(before))
axes.plot(before.values(), positions, "o", label="trained without a bound")
axes.plot(after.values(), positions, "s", label="bounded and trained on")
axes.axvline(1, color="grey", linewidth=0.8)
axes.set_yticks(positions, before.keys())
axes.invert_yaxis()
axes.set(xlabel="largest singular value", xlim=(0, None))
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

# %% [markdown]
# During training, `bounded_norm` takes one step of power iteration each time, which follows the weights closely but not
# exactly. That is why the values can be a little above 1. The accuracy is higher because the network was trained for twice as
# long, not because it is bounded.
#
# A product of these bounds is a Lipschitz constant only if the layers between the convolutions have one as well. Batch norms
# scale freely. `constraint.batch_norm_to` bounds them in the trainer, and `SOC` layers build networks without any.
