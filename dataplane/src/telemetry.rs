//! Logs: JSON lines with trace ids, no content, no token.
