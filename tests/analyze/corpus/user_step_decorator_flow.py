"""User step decorators run around a task: they cannot change what the step installs."""
# expect: static

from metaflow import FlowSpec, UserStepDecorator, pypi, step, user_step_decorator


class timed(UserStepDecorator):
    def init(self, label="time"):
        self.label = label

    def pre_step(self, step_name, flow, inputs=None):
        print(self.label, step_name, flow, inputs)


@user_step_decorator
def announced(step_name, flow, inputs=None, attributes=None):
    print("before", step_name, inputs, attributes)
    yield
    print("after", step_name, flow)


class UserStepDecoratorFlow(FlowSpec):
    @timed(label="seconds")
    @pypi(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"scikit-learn": "1.5.2"})
    @announced
    @timed
    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    UserStepDecoratorFlow()
