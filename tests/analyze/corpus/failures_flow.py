"""What happens when a step fails: @retry, @catch and @timeout together."""
# expect: static

from metaflow import FlowSpec, catch, conda, retry, step, timeout


class FailuresFlow(FlowSpec):
    @catch(var="problem", print_exception=False)
    @retry(times=2, minutes_between_retries=1)
    @timeout(hours=1, minutes=30)
    @conda(packages={"requests": "2.32.3"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        print(self.problem)


if __name__ == "__main__":
    FailuresFlow()
