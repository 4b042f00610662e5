"""Which of two spirals does a point lie on? A flow with one step that wants a GPU, and torch with all of CUDA.

    start ─▶ prepare ─▶ train ─▶ evaluate ─▶ end
             numpy      torch    numpy

The image of `train` holds some forty wheels of 3 GB; the others hold numpy, or what Metaflow needs. Only the machine
with the GPU pulls CUDA. `train` hands the weights on as arrays, and `evaluate` applies them without torch.

Without a GPU `train` runs on the processor, from the same wheels: `run` fetches them once and trains for seconds.

    bazel run //examples/torch_gpu:train_flow.explain             shows what each step needs, and how large it is
    bazel run //examples/torch_gpu:train_flow -- run              runs here
    bazel run //examples/torch_gpu:train_flow.push                pushes one image per step
    bazel run //examples/torch_gpu:train_flow -- run --with batch
"""

from metaflow import FlowSpec, Parameter, pypi, pypi_base, resources, step


@pypi_base(python="3.14")
class TrainFlow(FlowSpec):
    """Generate two noisy spirals, train a small network to tell them apart, and score it on points it never saw."""

    points = Parameter("points", help="How many points to generate.", type=int, default=4000)
    epochs = Parameter("epochs", help="How often to go over the training points.", type=int, default=60)
    seed = Parameter("seed", help="Seed of everything random.", type=int, default=7)

    @step
    def start(self):
        """Check the parameters."""
        if self.points < 100:
            raise ValueError(f"--points is {self.points}: at least 100 are needed to train on")
        if self.epochs < 1:
            raise ValueError(f"--epochs is {self.epochs}: at least 1 is needed")
        self.next(self.prepare)

    @resources(cpu=1, memory=1024)
    @pypi(packages={"numpy": "2.5.5"})
    @step
    def prepare(self):
        """Generate the points, and set a quarter of them aside."""
        import numpy as np

        random = np.random.default_rng(self.seed)
        spiral = random.integers(0, 2, self.points)
        turn = np.sqrt(random.random(self.points)) * 3 * np.pi
        angle = turn + np.pi * spiral
        points = np.column_stack([turn * np.cos(angle), turn * np.sin(angle)])
        points = (points + random.normal(0, 0.3, points.shape)) / (3 * np.pi)

        points, labels = points.astype(np.float32), spiral.astype(np.float32)
        held_out = self.points // 4
        self.test_points, self.train_points = points[:held_out], points[held_out:]
        self.test_labels, self.train_labels = labels[:held_out], labels[held_out:]
        self.next(self.train)

    @resources(gpu=1, cpu=2, memory=8192)
    @pypi(packages={"numpy": "2.5.5", "torch": "2.14.1"})
    @step
    def train(self):
        """Train the network, on the GPU where there is one."""
        import torch
        from torch import nn

        torch.manual_seed(self.seed)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        print(f"torch {torch.__version__}, built for CUDA {torch.version.cuda}, trains on: {self.device}")

        points = torch.from_numpy(self.train_points).to(device)
        labels = torch.from_numpy(self.train_labels).to(device)
        network = nn.Sequential(
            nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0)
        ).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        loss_of = nn.BCEWithLogitsLoss()
        self.losses = []
        for epoch in range(1, self.epochs + 1):
            total = 0.0
            for batch in torch.randperm(len(points), device=device).split(128):
                optimizer.zero_grad()
                loss = loss_of(network(points[batch]), labels[batch])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            self.losses.append(total / len(points))
            if epoch % 10 == 0 or epoch == self.epochs:
                print(f"epoch {epoch} of {self.epochs}: loss {self.losses[-1]:.4f}")

        layers = [layer for layer in network.cpu() if isinstance(layer, nn.Linear)]
        self.weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]
        self.next(self.evaluate)

    @resources(cpu=1, memory=1024)
    @pypi(packages={"numpy": "2.5.5"})
    @step
    def evaluate(self):
        """Apply the weights to the points that were set aside."""
        import numpy as np

        values = self.test_points
        for weight, bias in self.weights[:-1]:
            values = np.maximum(values @ weight.T + bias, 0)
        weight, bias = self.weights[-1]
        predicted = (values @ weight.T + bias).ravel() > 0
        self.accuracy = float(np.mean(predicted == (self.test_labels > 0.5)))
        self.next(self.end)

    @step
    def end(self):
        """Print how well it went."""
        print(f"Trained on {self.device}: right about {self.accuracy:.1%} of the points set aside.")


if __name__ == "__main__":
    TrainFlow()
