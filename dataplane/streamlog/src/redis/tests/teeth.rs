//! The deliberate bugs that sit in an engine must be seen on this one as well. Run with
//! `cargo test --workspace --features streamlog/bugs teeth_`: the switch is one for the process.

use super::{Stage, handles};
use crate::bugs::{self, Bug};
use crate::conformance::teeth::alone;
use crate::conformance::{Writer, text};
use crate::directory::Keep;
use crate::error::LogError;
use crate::log::{Opened, StreamLog};
use protocol::Epoch;

/// Whether a zombie's append and seal are refused.
async fn a_zombie_is_fenced() -> bool {
    let stage = Stage::shared();
    let (a, b) = (stage.idle("a"), stage.idle("b"));
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(1).await.unwrap();
    writer.taken_by(&handles(&b), Keep::Tail).await.unwrap();
    let fenced = Err(LogError::Fenced { epoch: Epoch(2) });
    writer.append(1).await.map(drop) == fenced && writer.seal("stop").await == fenced
}

/// Whether a repeated request finds the first answer.
async fn a_repeat_finds_the_first_answer() -> bool {
    let stage = Stage::shared();
    let (a, b) = (stage.idle("a"), stage.idle("b"));
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(2).await.unwrap();
    let opened = b.open(writer.opening.clone(), b.owner()).await.unwrap();
    matches!(opened, Opened::Exists(..)) && text(&writer.seen_by(&handles(&b)).await).len() == 2
}

fn bites<F: Future<Output = bool>>(bug: Bug, right: impl Fn() -> F) {
    let _one = alone();
    let holds = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(right())
    };
    assert!(holds(), "red without {}", bug.name());
    bugs::activate(Some(bug));
    assert!(!holds(), "green in spite of {}", bug.name());
}

#[test]
fn teeth_no_fence_on_redis() {
    bites(Bug::NoFence, a_zombie_is_fenced);
}

#[test]
fn teeth_reused_id_on_redis() {
    bites(Bug::ReusedId, a_repeat_finds_the_first_answer);
}
