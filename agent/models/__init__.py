"""Models: turns files in the drop folder into versions that serve."""
