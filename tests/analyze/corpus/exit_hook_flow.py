"""Functions that are called when the run has ended."""
# expect: static

from metaflow import FlowSpec, exit_hook, step


def tell(run):
    print(run)


@exit_hook(on_success=[tell], on_error=[tell])
class ExitHookFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ExitHookFlow()
