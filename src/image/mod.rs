//! OCI and Docker image data: digests, references, manifests, configurations, and the containers they come in.
