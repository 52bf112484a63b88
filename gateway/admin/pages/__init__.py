"""The pages, one file for each place of the menu."""
