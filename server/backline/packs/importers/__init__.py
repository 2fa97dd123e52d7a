"""Makes packs of other people's checkpoints, once, from local files: nothing is downloaded, no pickled code runs."""
