"""Changes to an image that are made to mislead a model."""
