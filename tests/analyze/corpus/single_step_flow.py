"""One step is start and end at once, whatever its name."""
# expect: static

from metaflow import FlowSpec, pypi, step


class SingleStepFlow(FlowSpec):
    @pypi(packages={"requests": "2.32.3"}, python="3.12")
    @step
    def fetch(self):
        import requests

        self.status = requests.get("https://example.com", timeout=10).status_code


if __name__ == "__main__":
    SingleStepFlow()
