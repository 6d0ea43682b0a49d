"""The race: windrow and its peers on the layers of real networks, interleaved in one run (see README.md)."""
