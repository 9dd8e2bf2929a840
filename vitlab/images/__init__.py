"""Image sets: folders, the catalogue, ImageNet's facts."""
