"""Settings of the churn flow that are not worth a parameter: a module beside the flow, imported by its name."""

CUSTOMERS = 600
"""Customers that the flow generates when no other number is given."""

SEED = 7
"""Seed of the generated customers and of the models."""

HOLD_OUT = 0.25
"""Share of the customers that no model sees while it is trained."""

MODELS = ("logistic", "forest", "boosting")
"""Names of the models that compete, one training task for each."""
