"""How far an image is from another, and how sure a difference between methods is. Needs the `training` extra."""
