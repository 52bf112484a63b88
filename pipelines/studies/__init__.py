"""Published studies repeated on virtual patients with the models that ship. Needs the `training` extra."""
