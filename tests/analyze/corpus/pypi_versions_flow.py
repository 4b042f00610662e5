"""Every way to write a version for @pypi: pins, operators, any version, extras, compatible releases."""
# expect: static

from metaflow import FlowSpec, pypi, step


class PypiVersionsFlow(FlowSpec):
    @pypi(
        packages={
            "pandas": "2.2.3",
            "numpy": ">=1.26,<3",
            "scikit-learn": "~=1.5",
            "scipy": "!=1.14.0",
            "tqdm": "",
            "pyarrow": "<18",
            "requests[socks]": "2.32.3",
            "uvicorn[standard,watch]": ">0.30",
            "xgboost": "2.*",
        }
    )
    @step
    def start(self):
        self.next(self.end)

    @pypi(packages={"Flask_Cors": "5.0.0", "ruamel.yaml": "0.18.6"})
    @step
    def end(self):
        pass


if __name__ == "__main__":
    PypiVersionsFlow()
