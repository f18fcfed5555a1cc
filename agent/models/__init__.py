"""Models: from a file in the drop folder to the version that answers."""
