"""How a group of models looks in every figure: its colour and marker, as the zoo says."""

from pathlib import Path

from vitlab.files import read_yaml

# They lie beside the models that speak for a group.
_GROUPS = read_yaml(Path(__file__).with_name("zoo") / "groups.yml")
COLOURS = {group: look["colour"] for group, look in _GROUPS.items()} | {"people": "#3c7a3c"}
MARKERS = {group: look["marker"] for group, look in _GROUPS.items()} | {"people": "*"}


def group_of(series: str) -> str:
    """The group whose look a series has, the longest that its name begins with; else empty.

    >>> group_of("ViT stylised, last token"), group_of("AlexNet")
    ('ViT stylised', '')
    """
    return max((group for group in COLOURS if series.startswith(group)), key=len, default="")


def colour(group: str) -> str:
    """The colour a group has in every figure."""
    return COLOURS.get(group, "#666666")
