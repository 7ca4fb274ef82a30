//! The store on disk: blobs, unpacked layers, images, references, writable layers.
