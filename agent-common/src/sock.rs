//! Kept per socket.
