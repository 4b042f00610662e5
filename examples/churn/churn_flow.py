"""Which customers will leave? A flow whose steps need different packages.

    start ─▶ prepare ─▶ train (one task per model) ─▶ evaluate ─▶ report ─▶ end
             pandas     scikit-learn                               matplotlib

`start`, `evaluate` and `end` declare no package and get none. What passes from one step to the next is plain Python
(lists, dictionaries, numbers), because the next step lacks the packages that would be needed to read anything else.

    bazel run //examples/churn:churn_flow.lock           writes the lock of every step
    bazel run //examples/churn:churn_flow -- run         runs here, each step on its locked packages
    bazel run //examples/churn:churn_flow.push           pushes one image per step
    bazel run //examples/churn:churn_flow -- run --with batch
"""

from churn_config import CUSTOMERS, HOLD_OUT, MODELS, SEED
from inspection import inspect_environment
from metaflow import FlowSpec, Parameter, card, current, pypi, pypi_base, resources, step
from metaflow.cards import Image, Markdown, Table

from examples.lib.features import FEATURES, derive, matrix


@pypi_base(python="3.14")
class ChurnFlow(FlowSpec):
    """Generate customers, let three models compete at predicting who leaves, and report on the best."""

    customers = Parameter("customers", help="How many customers to generate.", type=int, default=CUSTOMERS)
    seed = Parameter("seed", help="Seed of everything random.", type=int, default=SEED)

    @step
    def start(self):
        """Check the parameters."""
        if self.customers < 100:
            raise ValueError(f"--customers is {self.customers}: at least 100 are needed to train on")
        self.inspection = inspect_environment()
        self.next(self.prepare)

    @resources(cpu=1, memory=1024)
    @pypi(packages={"numpy": "2.5.5", "pandas": "3.1.1"})
    @step
    def prepare(self):
        """Generate the customers, derive their features and set some of them aside."""
        import numpy as np
        import pandas as pd

        random = np.random.default_rng(self.seed)
        table = pd.DataFrame(
            {
                "customer": range(self.customers),
                "tenure_months": random.integers(1, 72, self.customers),
                "monthly_charge": random.gamma(9.0, 7.0, self.customers).round(2),
                "calls_to_support": random.poisson(1.2, self.customers),
                "yearly_contract": random.random(self.customers) < 0.4,
            }
        )
        pull = 0.02 * table.monthly_charge + 0.6 * table.calls_to_support - 0.05 * table.tenure_months
        pull -= 1.5 * table.yearly_contract
        table["churned"] = random.random(self.customers) < 1 / (1 + np.exp(-pull))

        by_contract = table.groupby("yearly_contract")["churned"].mean()
        self.churn_rates = {"monthly": float(by_contract[False]), "yearly": float(by_contract[True])}
        self.rows = [derive(customer) for customer in table.to_dict("records")]
        self.labels = [bool(label) for label in table.churned]
        self.held_out = int(self.customers * HOLD_OUT)
        self.models = list(MODELS)
        self.inspection = inspect_environment()
        self.next(self.train, foreach="models")

    @resources(cpu=2, memory=2048)
    @pypi(packages={"numpy": "2.5.5", "scikit-learn": "1.9.1"})
    @step
    def train(self):
        """Train one model, and score it on the customers that were set aside."""
        from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score, roc_curve
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        candidates = {
            "logistic": LogisticRegression(),
            "forest": RandomForestClassifier(n_estimators=100, random_state=self.seed),
            "boosting": GradientBoostingClassifier(random_state=self.seed),
        }
        self.model = self.input
        classifier = make_pipeline(StandardScaler(), candidates[self.model])
        columns = matrix(self.rows)
        classifier.fit(columns[self.held_out :], self.labels[self.held_out :])

        truth = self.labels[: self.held_out]
        scores = classifier.predict_proba(columns[: self.held_out])[:, 1]
        false_positives, true_positives, _ = roc_curve(truth, scores)
        self.auc = float(roc_auc_score(truth, scores))
        self.curve = {"false_positives": false_positives.tolist(), "true_positives": true_positives.tolist()}
        self.inspection = inspect_environment()
        self.next(self.evaluate)

    @step
    def evaluate(self, inputs):
        """Compare the models, and keep the best."""
        self.merge_artifacts(inputs, include=["churn_rates", "held_out"])
        self.aucs = {task.model: task.auc for task in inputs}
        self.curves = {task.model: task.curve for task in inputs}
        self.best = max(self.aucs, key=self.aucs.__getitem__)
        self.inspection = inspect_environment()
        self.next(self.report)

    @resources(cpu=1, memory=1024)
    @card(type="blank")
    @pypi(packages={"numpy": "2.5.5", "matplotlib": "3.11.2"})
    @step
    def report(self):
        """Draw the models' curves on a card."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot()
        for model, curve in self.curves.items():
            axes.plot(curve["false_positives"], curve["true_positives"], label=f"{model} ({self.aucs[model]:.3f})")
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
        axes.set(xlabel="false positives", ylabel="true positives", title=f"{self.held_out} customers held out")
        axes.legend(title="area under the curve")

        current.card.append(Markdown(f"# Best model: {self.best}"))
        current.card.append(Image.from_matplotlib(figure))
        current.card.append(
            Table(headers=["contract", "churn"], data=[[k, f"{v:.1%}"] for k, v in self.churn_rates.items()])
        )
        current.card.append(Markdown(f"Features: {', '.join(FEATURES)}"))
        self.inspection = inspect_environment()
        self.next(self.end)

    @step
    def end(self):
        """Say which model won."""
        self.inspection = inspect_environment()
        print(f"The best of {len(self.aucs)} models is {self.best}: AUC {self.aucs[self.best]:.3f}.")


if __name__ == "__main__":
    ChurnFlow()
