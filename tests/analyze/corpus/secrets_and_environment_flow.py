"""Secrets and environment variables; nothing of them is a package."""
# expect: static

import os

from metaflow import FlowSpec, environment, secrets, step


class SecretsAndEnvironmentFlow(FlowSpec):
    @secrets(sources=["database"])
    @environment(vars={"STAGE": os.environ.get("STAGE", "test"), "LEVEL": "3"})
    @step
    def start(self):
        self.stage = os.environ["STAGE"]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SecretsAndEnvironmentFlow()
