"""Train a network whose gradients nobody wrote down: windrow's layers under autograd.

    python examples/autodiff.py

The network is a line per layer; autograd makes its derivative, with windrow's convolutions and pools.

    picture 1x8x8 -> conv 3x3, 16 filters -> tanh -> max pool 2x2
                  -> conv 3x3, 32 filters -> tanh -> mean of 2x2 -> dense -> 10 scores
"""

import argparse

import autograd.numpy as np
from autograd import value_and_grad

from digits import load_digits
from windrow.autograd import avg_pool, conv, max_pool


def new_parameters(rng):
    """Weights that keep the signal's size from layer to layer."""
    shapes = {"w1": (16, 1, 3, 3), "w2": (32, 16, 3, 3), "w3": (32 * 2 * 2, 10)}
    inputs = {"w1": 9, "w2": 16 * 9, "w3": 32 * 2 * 2}
    weights = {name: rng.standard_normal(shape) / inputs[name] ** 0.5 for name, shape in shapes.items()}
    return {name: value.astype(np.float32) for name, value in weights.items()}


def scores(parameters, x):
    x = max_pool(np.tanh(conv(x, parameters["w1"], padding=1)), 2)
    x = avg_pool(np.tanh(conv(x, parameters["w2"], padding=1)), 2)
    return np.dot(x.reshape(len(x), -1), parameters["w3"])


def loss(parameters, x, digit):
    """Mean cross entropy."""
    given = scores(parameters, x)
    highest = np.max(given, axis=1, keepdims=True)
    total = np.log(np.sum(np.exp(given - highest), axis=1)) + highest[:, 0]
    return np.mean(total - given[np.arange(len(x)), digit])


def accuracy(parameters, x, digit):
    return float(np.mean(np.argmax(scores(parameters, x), axis=1) == digit))


def train(data, epochs, *, batch=32, rate=1.0, momentum=0.9, seed=0):
    """Stochastic gradient descent with momentum; yields the parameters after every epoch."""
    rng = np.random.default_rng(seed)
    parameters = new_parameters(rng)
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    step = value_and_grad(loss)
    for _ in range(epochs):
        order = rng.permutation(len(data.train_x))
        for some in np.split(order, range(batch, len(order), batch)):
            _, gradient = step(parameters, data.train_x[some], data.train_digit[some])
            for name in parameters:
                velocity[name] = momentum * velocity[name] - rate * (1 - momentum) * gradient[name]
                parameters[name] = parameters[name] + velocity[name]
        yield parameters


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args(arguments)
    data = load_digits()
    for epoch, parameters in enumerate(train(data, options.epochs), 1):
        held_out = accuracy(parameters, data.test_x, data.test_digit)
        print(f"epoch {epoch:2}: {held_out:.1%} of the held-out digits are read correctly")


if __name__ == "__main__":
    main()
