"""Weights of other code bases into the release folders of this one. What is opened here may have been made to harm."""
