"""Rendered stimuli: shapes, textures, scenes, transfer families."""
