//! Events on the ring.
