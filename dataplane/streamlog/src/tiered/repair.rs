//! An owner repairs the store: what it knows to have been acknowledged, and the store lost, it
//! writes back, with its epoch as the store's own rule against two owners.

use super::Tiered;
use super::live::Own;
use crate::batch::Batch;
use crate::directory::Restore;
use crate::error::LogError;
use crate::log::{Head, Opening};
use protocol::{ChunkType, Epoch, MessageId};
use std::sync::Arc;

impl Tiered {
    /// What this node can write back: live streams it owns, then answers it sealed, newest first.
    pub fn held(&self) -> Vec<Arc<Opening>> {
        let live: Vec<_> = self.lock().values().map(|live| live.lock().opening.clone()).collect();
        live.into_iter().chain(self.finished.own_openings()).collect()
    }

    /// Writes one of them back. `false`: it is not held here any more.
    ///
    /// # Errors
    /// `Fenced`, `Sealed`: the store knows better, and this memory has let go of it. `Gap`: the
    /// store holds more than this memory knows, nothing was lost. `Unavailable`.
    pub async fn write_back(&self, stream: MessageId) -> Result<bool, LogError> {
        let live = self.live(stream).map(|live| live.lock().restore());
        let ended = || {
            let whole = self.finished.own_answer(stream)?;
            Some(restore(&whole.opening, &whole.head, &whole.batches))
        };
        let Some(restore) = live.or_else(ended) else { return Ok(false) };
        let written = self.directory.restore(&restore, &self.owner).await;
        if let Err(LogError::Fenced { .. } | LogError::Sealed) = written {
            self.forget_epoch(stream, restore.head.epoch);
        }
        written.map(|()| true)
    }

    /// After a write of ours met `error`: whether the store had lost the stream, or the end of it, and
    /// has it again, so that the same write may be tried again.
    pub(super) async fn mended(
        &self,
        stream: MessageId,
        epoch: Epoch,
        error: &LogError,
    ) -> Result<bool, LogError> {
        let lost = {
            let live = self.live(stream);
            let own = live.as_ref().map(|live| live.lock());
            own.filter(|own| own.head.epoch == epoch).is_some_and(|own| match error {
                // At our own tail there is nothing to write back, unless the stream itself is gone.
                LogError::Gap { tail } => *tail <= own.head.tail,
                LogError::NotFound => true,
                // An earlier owner wrote back what it still believed in.
                LogError::Fenced { epoch: stands } => *stands < epoch,
                _ => false,
            })
        };
        if !lost {
            return Ok(false);
        }
        let mended = self.write_back(stream).await?;
        if mended {
            tracing::warn!(%stream, %epoch, "the store had lost this stream; it was written back");
        }
        Ok(mended)
    }

    /// Lets go of what is held under this epoch; a later one may have come in the meantime.
    fn forget_epoch(&self, stream: MessageId, epoch: Epoch) {
        self.let_go(stream, |own| own.head.epoch == epoch);
        if self.finished.own_answer(stream).is_some_and(|whole| whole.head.epoch == epoch) {
            self.finished.forget(stream);
        }
    }
}

impl Own {
    fn restore(&self) -> Restore {
        restore(&self.opening, &self.head, &self.batches)
    }
}

fn restore(opening: &Arc<Opening>, head: &Head, batches: &[Arc<Batch>]) -> Restore {
    let tool = |batch: &Arc<Batch>| batch.chunks.iter().any(|c| c.kind == ChunkType::ToolUse);
    // At least this one, where nothing came since it.
    let barren = head.taken_over.is_some_and(|taken| taken.from == head.tail);
    Restore {
        opening: opening.clone(),
        head: head.clone(),
        batches: batches.to_vec(),
        barren: u32::from(barren),
        used_tools: batches.iter().any(tool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::Writer;
    use crate::conformance::scene::{PAGE, Scene};
    use crate::cursor::Cursor;
    use crate::directory::{Directory, Keep};
    use crate::log::{Opened, RUN_GRACE, StreamLog};
    use crate::memory::KEEP_TEXT;
    use protocol::Index;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn an_append_finds_the_loss_and_mends_it() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(3).await.unwrap();
        let mut here = a.follow(&writer, Cursor::START);
        let mut there = b.follow(&writer, Cursor::START);
        for viewer in [&mut here, &mut there] {
            viewer.expect(&["attached 0", "batch 0..3"]).await;
        }
        scene.lose_everything();
        here.expect(&["silent"]).await;
        there.expect(&["paused"]).await;
        writer.append(2).await.unwrap();
        here.expect(&["batch 3..5"]).await;
        there.expect(&["live", "batch 3..5"]).await;
        writer.seal("stop").await.unwrap();
        for viewer in [&mut here, &mut there] {
            viewer.expect(&["sealed 5", "end"]).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_a_chunk_and_one_that_is_sealed_next_are_mended_too() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut empty = Writer::open(&a.handles()).await;
        let mut full = Writer::open(&a.handles()).await;
        full.append(2).await.unwrap();
        scene.lose_everything();
        empty.append(1).await.unwrap();
        full.seal("stop").await.unwrap();
        b.follow(&empty, Cursor::START).expect(&["attached 0", "batch 0..1", "silent"]).await;
        b.follow(&full, Cursor::START).expect(&["attached 0", "batch 0..2", "sealed 2"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_lost_the_end_gets_it_back_and_nobody_sees_a_mixture() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(2).await.unwrap();
        let early = writer.restore(&a.direct()).await;
        writer.append(3).await.unwrap();
        let seen = cursor_at_end(&writer, &b).await;
        scene.lose_everything();
        // A snapshot that is older than the last append.
        a.engine.restore(&early, &a.owner).await.unwrap();
        writer.append(1).await.unwrap();
        let mut viewer = b.follow(&writer, seen);
        viewer.expect(&["attached 5", "batch 5..6", "silent"]).await;
    }

    async fn cursor_at_end(writer: &Writer, node: &crate::conformance::scene::Stage) -> Cursor {
        crate::conformance::scene::cursor(writer, node, writer.tail.0).await
    }

    #[tokio::test(start_paused = true)]
    async fn everything_held_is_written_back_unasked_the_live_ones_first() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut ended = Writer::open(&a.handles()).await;
        ended.append(2).await.unwrap();
        ended.seal("stop").await.unwrap();
        let mut live = Writer::open(&a.handles()).await;
        live.append(1).await.unwrap();
        scene.lose_everything();
        let held: Vec<_> = a.tiered.held().iter().map(|opening| opening.message).collect();
        assert_eq!(held, [live.stream, ended.stream]);
        for stream in held {
            assert_eq!(a.tiered.write_back(stream).await, Ok(true));
        }
        b.follow(&live, Cursor::START).expect(&["attached 0", "batch 0..1", "silent"]).await;
        b.follow(&ended, Cursor::START).expect(&["attached 0", "batch 0..2", "sealed 2"]).await;
        sleep(KEEP_TEXT).await;
        assert_eq!(a.tiered.held().len(), 1, "the text of the other has expired");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_owner_is_never_overwritten() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(2).await.unwrap();
        let mut taken = b.take(&writer, Keep::Tail).await;
        taken.append(1).await.unwrap();
        scene.lose_everything();
        // The earlier owner comes first, with what it still believes in.
        assert_eq!(a.tiered.write_back(writer.stream).await, Ok(true));
        taken.append(1).await.unwrap();
        assert_eq!(taken.seen_by(&b.direct()).await.head.tail, Index(4));
        let refused = a.tiered.write_back(writer.stream).await;
        assert_eq!(refused, Err(LogError::Fenced { epoch: Epoch(2) }));
        assert_eq!(a.tiered.write_back(writer.stream).await, Ok(false), "it has let go");
        assert_eq!(writer.append(1).await, Err(LogError::Fenced { epoch: Epoch(2) }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_holds_is_unavailable_for_a_while_and_then_gone() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(1).await.unwrap();
        let mut viewer = b.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0", "batch 0..1"]).await;
        a.handle.cut();
        scene.lose_everything();
        assert_eq!(viewer.next_within(RUN_GRACE).await, "paused");
        let read = b.tiered.read(writer.stream, Index::ZERO, PAGE).await.map(drop);
        assert!(matches!(read, Err(LogError::Unavailable { .. })), "{read:?}");
        sleep(RUN_GRACE).await;
        assert_eq!(viewer.next_within(RUN_GRACE).await, "not found");
        let read = b.tiered.read(writer.stream, Index::ZERO, PAGE).await.map(drop);
        assert_eq!(read, Err(LogError::NotFound));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_called_dead_by_a_store_that_forgot_who_lives() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let writer = Writer::open(&a.handles()).await;
        scene.lose_everything();
        // Written back before its owner's next renewal.
        assert_eq!(a.tiered.write_back(writer.stream).await, Ok(true));
        let orphans = b.handle.orphans(10).await;
        assert!(matches!(orphans, Err(LogError::Unavailable { .. })), "{orphans:?}");
        sleep(RUN_GRACE).await;
        assert_eq!(b.handle.orphans(10).await.unwrap().len(), 1, "it never renewed");
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_after_the_loss_is_a_new_stream() {
        let scene = Scene::default();
        let a = scene.node("a");
        scene.lose_everything();
        let writer = Writer::open(&a.handles()).await;
        let again = a.tiered.open(writer.opening.clone(), &a.owner).await;
        assert_eq!(again, Ok(Opened::Yours(Epoch::FIRST)));
    }
}
