//! The embedded playground (protocol section 7).
