"""A function that returns one of Metaflow's decorators: what it returns is only known by calling it."""
# expect: dynamic (machine_learning)

from metaflow import FlowSpec, pypi, step


def machine_learning(*extra):
    """Return @pypi with what every model needs, and ``extra`` in any version."""
    return pypi(packages={"numpy": "2.1.0", "scikit-learn": "1.5.2", **dict.fromkeys(extra, "")})


class DecoratorFactoryFlow(FlowSpec):
    @machine_learning()
    @step
    def start(self):
        self.next(self.boost)

    @machine_learning("xgboost", "lightgbm")
    @step
    def boost(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    DecoratorFactoryFlow()
