//! Real providers: both dialects over real TCP with everything that goes wrong there, failover and
//! breaker, and whole answers through nodes, judged by transcripts.

mod answers;
mod calls;
mod device;
mod server;
mod takeovers;
