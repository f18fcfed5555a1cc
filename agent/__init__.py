"""The inference agent: classifies camera frames and uploads with models dropped into a folder."""
