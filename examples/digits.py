"""Train a small convolutional network on real handwritten digits, with NumPy and windrow.

    python examples/digits.py

The network reads an 8x8 picture of a digit and answers which one it is:

    picture 1x8x8 -> conv 3x3, 32 filters         -> ReLU
                  -> conv 3x3, 64 filters, stride 2 -> ReLU
                  -> dense                          -> 10 scores

Everything that is learned is in one dictionary, and the derivative of every step is written out below it. The
two convolutions and their exact gradients are ``windrow.conv`` and ``windrow.conv_backward``; the rest is
NumPy.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

import windrow as wr

Array = np.ndarray
Parameters = dict[str, Array]


class Data(NamedTuple):
    """Pictures (count, 1, 8, 8) with values from 0 to 1, and the digit that each one shows."""

    train_x: Array
    train_digit: Array
    test_x: Array
    test_digit: Array


class Training(NamedTuple):
    """What came out: one entry per epoch in the lists, and the network's answers on the held-out pictures."""

    parameters: Parameters
    loss: list[float]
    train_accuracy: list[float]
    test_accuracy: list[float]
    test_probability: Array
    seconds: float


def load_digits(seed: int = 0) -> Data:
    """The 1,797 scanned digits that come with scikit-learn; a quarter of them is held out."""
    from sklearn import datasets

    pictures, digits = datasets.load_digits(return_X_y=True)
    x = (pictures / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = np.split(order, [len(x) // 4])
    return Data(x[train], digits[train], x[test], digits[test])


# The network and its derivative


def new_parameters(rng: np.random.Generator) -> Parameters:
    """Random weights that keep the signal's size from layer to layer (He et al. 2015); no bias yet."""

    def weights(*shape: int, inputs: int) -> Array:
        return (rng.standard_normal(shape) * np.sqrt(2 / inputs)).astype(np.float32)

    def zeros(count: int) -> Array:
        return np.zeros(count, np.float32)

    return {
        "w1": weights(32, 1, 3, 3, inputs=9),
        "b1": zeros(32),
        "w2": weights(64, 32, 3, 3, inputs=32 * 9),
        "b2": zeros(64),
        "w3": weights(64 * 4 * 4, 10, inputs=64 * 4 * 4),
        "b3": zeros(10),
    }


def forward(p: Parameters, x: Array) -> tuple[Array, tuple[Array, ...]]:
    """Scores of the ten digits for every picture, and what ``backward`` needs to remember."""
    h1 = np.maximum(wr.conv(x, p["w1"], p["b1"], padding=1), 0)  # (count, 32, 8, 8)
    h2 = np.maximum(wr.conv(h1, p["w2"], p["b2"], stride=2, padding=1), 0)  # (count, 64, 4, 4)
    scores = h2.reshape(len(x), -1) @ p["w3"] + p["b3"]  # (count, 10)
    return scores, (x, h1, h2)


def backward(p: Parameters, cache: tuple[Array, ...], dscores: Array) -> Parameters:
    """The loss's derivative by every parameter, from that by the scores: the chain rule, last layer first."""
    x, h1, h2 = cache
    flat = h2.reshape(len(x), -1)
    dh2 = (dscores @ p["w3"].T).reshape(h2.shape)
    da2 = dh2 * (h2 > 0)  # ReLU passes the derivative where its result is positive
    dh1, dw2, db2 = wr.conv_backward(da2, h1, p["w2"], stride=2, padding=1)
    da1 = dh1 * (h1 > 0)
    _, dw1, db1 = wr.conv_backward(da1, x, p["w1"], padding=1, needs=("w", "b"))
    return {"w1": dw1, "b1": db1, "w2": dw2, "b2": db2, "w3": flat.T @ dscores, "b3": dscores.sum(axis=0)}


def softmax(scores: Array) -> Array:
    """Scores as probabilities, row by row."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(scores: Array, digit: Array) -> tuple[float, Array]:
    """The mean of -log(probability of the right digit), and its derivative by the scores."""
    probability = softmax(scores)
    right = np.arange(len(digit)), digit
    loss = -np.log(probability[right]).mean()
    dscores = probability
    dscores[right] -= 1
    return float(loss), dscores / np.float32(len(digit))


# Training


class Adam:
    """Steps along the mean gradient, divided by its root mean square (Kingma and Ba 2015)."""

    def __init__(self, parameters: Parameters) -> None:
        self.mean = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.square = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.count = 0

    def step(self, parameters: Parameters, gradient: Parameters, rate: float) -> None:
        """Change every parameter in place."""
        self.count += 1
        for name, g in gradient.items():
            self.mean[name] += 0.1 * (g - self.mean[name])
            self.square[name] += 0.001 * (g * g - self.square[name])
            mean = self.mean[name] / (1 - 0.9**self.count)
            square = self.square[name] / (1 - 0.999**self.count)
            parameters[name] -= (rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)


def shifted(x: Array, rng: np.random.Generator) -> Array:
    """Half of the pictures moved by up to a pixel each way: a digit further left is the same digit."""
    padded = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)))
    down, right = np.where(rng.random(len(x)) < 0.5, rng.integers(0, 3, (2, len(x))), 1)[..., None, None]
    return padded[np.arange(len(x))[:, None, None], np.arange(8)[:, None] + down, np.arange(8) + right][
        :, None
    ]


def accuracy(p: Parameters, x: Array, digit: Array) -> float:
    """The share of pictures that the network reads right."""
    return float((forward(p, x)[0].argmax(axis=1) == digit).mean())


def train(data: Data, epochs: int = 30, batch: int = 32, rate: float = 2e-3, seed: int = 0) -> Training:
    """Show the network all pictures ``epochs`` times, in small batches, with a rate that falls to zero."""
    rng = np.random.default_rng(seed)
    p = new_parameters(rng)
    adam = Adam(p)
    losses, train_accuracy, test_accuracy = [], [], []
    steps = len(data.train_x) // batch
    start = time.perf_counter()
    with progress_bar(epochs) as show:
        for epoch in range(epochs):
            total = 0.0
            for step, chosen in enumerate(np.array_split(rng.permutation(len(data.train_x)), steps)):
                scores, cache = forward(p, shifted(data.train_x[chosen], rng))
                loss, dscores = cross_entropy(scores, data.train_digit[chosen])
                done = (epoch + step / steps) / epochs
                adam.step(p, backward(p, cache, dscores), rate * (1 + np.cos(np.pi * done)) / 2)
                total += loss
            losses.append(total / steps)
            train_accuracy.append(accuracy(p, data.train_x, data.train_digit))
            test_accuracy.append(accuracy(p, data.test_x, data.test_digit))
            show(epoch + 1, losses[-1], test_accuracy[-1])
    seconds = time.perf_counter() - start
    return Training(p, losses, train_accuracy, test_accuracy, softmax(forward(p, data.test_x)[0]), seconds)


@contextlib.contextmanager
def progress_bar(epochs: int) -> Iterator[Callable[[int, float, float], None]]:
    """A live bar where rich is installed, else a line now and then."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:

        def show(epoch: int, loss: float, right: float) -> None:
            if epoch % 5 == 0 or epoch == epochs:
                print(
                    f"epoch {epoch:3}/{epochs}   loss {loss:.4f}   held-out accuracy {right:.1%}", flush=True
                )

        yield show
        return

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[state]}"))
    with Progress(TextColumn("training"), *columns) as bar:
        task = bar.add_task("", total=epochs, state="")

        def show(epoch: int, loss: float, right: float) -> None:
            bar.update(task, completed=epoch, state=f"loss {loss:.4f}   held-out accuracy {right:.1%}")

        yield show


def main() -> None:
    """Train and say how well it went."""
    parser = argparse.ArgumentParser(
        description="Train a small convolutional network on real handwritten digits."
    )
    parser.add_argument("--epochs", type=int, default=30, help="how often to show all pictures (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, batches and shifts (0)")
    arguments = parser.parse_args()
    data = load_digits()
    result = train(data, arguments.epochs, seed=arguments.seed)
    right = round(result.test_accuracy[-1] * len(data.test_x))
    print(
        f"{right} of {len(data.test_x)} held-out digits read right: {result.test_accuracy[-1]:.2%} "
        f"after {arguments.epochs} epochs in {result.seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
