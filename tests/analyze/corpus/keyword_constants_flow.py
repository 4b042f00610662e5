"""All attributes of a decorator at once, with ``**`` of a constant."""
# expect: static

from metaflow import FlowSpec, kubernetes, pypi, resources, step

ENVIRONMENT = {"packages": {"pandas": "2.2.3"}, "python": "3.12"}
LARGE = {"cpu": 16, "memory": 64000, "gpu": 2}


class KeywordConstantsFlow(FlowSpec):
    @pypi(**ENVIRONMENT)
    @resources(**LARGE)
    @step
    def start(self):
        self.next(self.end)

    @pypi(**{**ENVIRONMENT, "python": "3.11"})
    @kubernetes(**{**LARGE, "image": "registry.example.com/base:2"})
    @step
    def end(self):
        pass


if __name__ == "__main__":
    KeywordConstantsFlow()
