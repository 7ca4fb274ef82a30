//! A layer as a tar stream, and the same layer as a directory.
