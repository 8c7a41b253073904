"""Small architectures in plain torch, one a file, that the tests and benchmarks share."""
