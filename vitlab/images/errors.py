"""What is raised where an image set cannot be had or read."""


class DataError(ValueError):
    """Images that cannot be used: missing, gated, damaged, or of unknown classes."""
