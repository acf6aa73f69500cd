//! Pod.
mod zeroed;
