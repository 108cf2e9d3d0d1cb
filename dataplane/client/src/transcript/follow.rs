//! One follow on one socket: the only index that may come next, and what came instead.

use super::SocketNo;
use protocol::Index;

/// Indexes remembered as missing on one follow, so that a late one is told from a double one.
const MAX_MISSING: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Ended,
    /// UNFOLLOW was sent: frames may still be on their way.
    Left,
}

/// One follow on one socket.
#[derive(Clone, Debug)]
pub(super) struct Follow {
    pub(super) socket: SocketNo,
    /// The only index that may come next.
    pub(super) next: Index,
    pub(super) missing: Vec<Index>,
    pub(super) state: State,
    /// A later socket has begun to deliver; this one no longer adds to the log.
    pub(super) superseded: bool,
    pub(super) begun: bool,
    /// A RECONNECT was sent on this socket while this follow was open: the position asked for.
    pub(super) asked: Option<Index>,
    /// RECOVERY announced another position than asked for, so RESET must say so next.
    pub(super) reset_due: Option<Index>,
}

pub(super) enum Position {
    Next,
    Twice,
    Late,
    Gap(u64),
}

impl Follow {
    pub(super) fn new(socket: SocketNo, from: Index) -> Self {
        Self {
            socket,
            next: from,
            missing: Vec::new(),
            state: State::Open,
            superseded: false,
            begun: false,
            asked: None,
            reset_due: None,
        }
    }

    pub(super) fn restart(&mut self, from: Index) {
        self.next = from;
        self.missing.clear();
        self.state = State::Open;
        self.asked = None;
        self.reset_due = None;
    }

    /// Where `index` stands against what must come next, and moves on.
    pub(super) fn place(&mut self, index: Index) -> Position {
        if index < self.next {
            return match self.missing.iter().position(|missing| *missing == index) {
                Some(at) => {
                    self.missing.swap_remove(at);
                    Position::Late
                }
                None => Position::Twice,
            };
        }
        let gap = index.0 - self.next.0;
        let room = MAX_MISSING.saturating_sub(self.missing.len()) as u64;
        self.missing.extend((self.next.0..index.0.min(self.next.0 + room)).map(Index));
        self.next = index.plus(1);
        if gap == 0 { Position::Next } else { Position::Gap(gap) }
    }
}
