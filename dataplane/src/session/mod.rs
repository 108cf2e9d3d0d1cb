//! A session: the pure machine that decides what a socket is told.
