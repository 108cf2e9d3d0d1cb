//! The one table of exit codes. (2, a wrong command line, is mostly clap's own.)

use crate::output::Paint;
use client::api::ApiError;
use client::connection::ConnectError;
use client::session::Stop;
use client::token::TokenError;
use std::io;
use std::process::ExitCode;

/// How a command that ran ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 0.
    Fine,
    /// 1: an answer failed, a verdict is red.
    Red,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Fine => 0,
            Outcome::Red => 1,
        })
    }
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_CONNECT: u8 = 3;
const UNAUTHENTICATED: u8 = 4;

/// No token at all.
#[derive(Debug, thiserror::Error)]
#[error("no token: pass --token, set CHATCTL_TOKEN, or point --url at a playground (`make dev`)")]
pub(crate) struct NoToken;

/// What was typed cannot be used, although it could be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Prints why a command could not run, and chooses its code.
pub(crate) fn failed(paint: &Paint, error: &anyhow::Error) -> ExitCode {
    let pipe = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if pipe == Some(io::ErrorKind::BrokenPipe) {
        // Whoever read our output has seen enough: `chatctl … | head`.
        return Outcome::Fine.into();
    }
    eprintln!("{} {error:#}", paint.red("error:"));
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<ApiError>() {
            return match error {
                ApiError::Unreachable { .. } => CANNOT_CONNECT,
                ApiError::Refused { status: 401, .. } => UNAUTHENTICATED,
                ApiError::Refused { .. } | ApiError::Shape { .. } => FAILED,
            };
        }
        if let Some(error) = cause.downcast_ref::<TokenError>() {
            return match error {
                TokenError::Unreachable(_) => CANNOT_CONNECT,
                TokenError::Refused(_) => UNAUTHENTICATED,
                TokenError::Unsigned(_) => FAILED,
            };
        }
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return match stop {
                Stop::Unreachable(_) => CANNOT_CONNECT,
                Stop::Unauthenticated(_) => UNAUTHENTICATED,
                Stop::Refused(_) => FAILED,
            };
        }
        if let Some(ConnectError::Unreachable { .. }) = cause.downcast_ref() {
            return CANNOT_CONNECT;
        }
        if cause.downcast_ref::<Usage>().is_some() {
            return USAGE;
        }
        if cause.downcast_ref::<NoToken>().is_some() {
            return UNAUTHENTICATED;
        }
    }
    FAILED
}
