"""What else @batch and @kubernetes take: queues, roles, disks, tolerations, labels; none of it is a package."""
# expect: static

from metaflow import FlowSpec, batch, kubernetes, pypi, step


class InstanceTypesFlow(FlowSpec):
    @kubernetes(
        cpu=2.5,
        memory=4000,
        disk=20000,
        service_account="training",
        namespace="ml",
        labels={"team": "pricing"},
        tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        use_tmpfs=True,
        image_pull_policy="IfNotPresent",
        shared_memory=1024,
    )
    @pypi(packages={"numpy": "2.1.0"})
    @step
    def start(self):
        self.next(self.end)

    @batch(cpu=1, memory=2000, queue="small", iam_role="arn:aws:iam::1:role/x", inferentia=1, shared_memory=512)
    @step
    def end(self):
        pass


if __name__ == "__main__":
    InstanceTypesFlow()
