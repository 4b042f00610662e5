"""How many calls will support get next week? A flow whose packages are decided while it starts.

    start ─▶ fit (one task per region) ─▶ join ─▶ end
             numpy

What `fit` installs comes from `settings.json`, a Metaflow Config, and the platform team's mutator gives every step
its Python and its retries. None of that stands in this file, so mfbazel reads the flow by letting Metaflow load it.

    bazel run //examples/forecast:forecast_flow.explain     says so, and shows what was found
    bazel run //examples/forecast:forecast_flow -- run      runs here
    bazel run //examples/forecast:forecast_flow.push        pushes one image per step
"""

from metaflow import Config, FlowSpec, config_expr, pypi, step

from examples.lib.platform import platform_defaults


@platform_defaults(python="3.14", retries=2)
class ForecastFlow(FlowSpec):
    """Fit a trend per region and extrapolate it."""

    settings = Config("settings", default="settings.json", help="Packages, horizon in days, and calls per region.")

    @step
    def start(self):
        """Name the regions."""
        self.regions = sorted(self.settings.regions)
        self.next(self.fit, foreach="regions")

    @pypi(packages=config_expr("settings.packages"))
    @step
    def fit(self):
        """Fit a straight line to one region's calls."""
        import numpy as np

        self.region = self.input
        calls = np.array(self.settings.regions[self.region])
        slope, level = np.polyfit(np.arange(len(calls)), calls, 1)
        days = np.arange(len(calls), len(calls) + self.settings.horizon)
        self.forecast = [round(float(level + slope * day), 1) for day in days]
        self.numpy_version = np.__version__
        self.next(self.join)

    @step
    def join(self, inputs):
        """Collect the forecasts."""
        self.forecasts = {task.region: task.forecast for task in inputs}
        self.next(self.end)

    @step
    def end(self):
        """Print them."""
        for region, forecast in sorted(self.forecasts.items()):
            print(f"{region}: {', '.join(str(calls) for calls in forecast)}")


if __name__ == "__main__":
    ForecastFlow()
