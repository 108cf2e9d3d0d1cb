//! Whether a client's cursor fits the log: the rule of protocol section 4, "Cursors", as a pure
//! function.

use crate::log::{Head, Page};
use protocol::server_frame::ResetReason;
use protocol::{Digest, Epoch, Index};

/// Where a client stands: it has everything before `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// First index it lacks.
    pub next: Index,
    /// Epoch of the last chunk it has; `None` counts as 0.
    pub epoch: Option<Epoch>,
    /// Digest of what it has.
    pub digest: Option<Digest>,
}

impl Cursor {
    /// From the start.
    pub const START: Self = Self { next: Index::ZERO, epoch: None, digest: None };

    /// From the start of a stream: what every new follower without chunks has.
    pub const fn at(next: Index) -> Self {
        Self { next, epoch: None, digest: None }
    }

    /// `Some(reason)` where the chunks of this client are not a prefix of the log: it must start
    /// over. `page` must have been read at `self.next`.
    pub fn refuted_by(&self, page: &Page) -> Option<ResetReason> {
        let last = self.next.0.checked_sub(1).map(Index)?;
        let fits = match (self.digest, page.before) {
            _ if last >= page.head.tail => false,
            (Some(mine), Some(before)) => mine == before,
            // Trimmed text cannot be compared; the follower answers EXPIRED anyway.
            (Some(_), None) => true,
            (None, _) => {
                let epoch = self.epoch.unwrap_or_default();
                !page.head.cuts.iter().any(|cut| cut.epoch > epoch && cut.keep <= last)
            }
        };
        (!fits).then(|| reason(&page.head, last, self.epoch.unwrap_or_default()))
    }
}

/// RESTARTED where a restart explains it, ROLLED_BACK otherwise.
fn reason(head: &Head, last: Index, epoch: Epoch) -> ResetReason {
    let restarted = head
        .cuts
        .iter()
        .any(|cut| cut.epoch > epoch && cut.keep <= last && cut.reason == ResetReason::Restarted);
    if restarted { ResetReason::Restarted } else { ResetReason::RolledBack }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::scene::Scene;
    use crate::conformance::{Writer, chunks, opening};
    use crate::directory::Keep;
    use crate::log::Cut;
    use proptest::prelude::*;
    use protocol::server_frame::Source;

    const EPOCH: Epoch = Epoch(3);

    /// Ten chunks under epoch 3, cut to `keep` under epoch 3 for `reason`.
    fn page(from: u64, cuts: &[Cut]) -> Page {
        let text = chunks(EPOCH, Index::ZERO, 10);
        let mut head = Head::opened(EPOCH);
        head.tail = Index(10);
        head.digest = Digest::EMPTY.with_all(&text);
        head.cuts = cuts.into();
        let before = text.get(..from as usize).map(|text| Digest::EMPTY.with_all(text));
        let (from, batches) = (Index(from), Vec::new());
        Page { opening: opening(), head, from, before, batches, source: Source::Memory }
    }

    #[test]
    fn the_rule_of_the_protocol() {
        use ResetReason::{Restarted, RolledBack};
        let cut = |keep, reason| Cut { epoch: EPOCH, keep: Index(keep), reason };
        let (restart, loss) = (cut(0, Restarted), cut(5, RolledBack));
        let digest = |n: u64| page(n, &[]).before;
        let wrong = Digest::parse("deadbeef");
        #[rustfmt::skip]
        let table = [
            // next, epoch, digest, cuts, refuted
            (0, None, None, vec![restart], None), // who has nothing cannot be wrong
            (0, Some(1), wrong, vec![restart], None),
            (10, Some(3), None, vec![restart, loss], None), // at the tail
            (11, Some(3), None, vec![], Some(RolledBack)), // i >= tail
            (11, Some(3), digest(10), vec![], Some(RolledBack)),
            (11, Some(2), None, vec![restart], Some(Restarted)),
            (4, Some(3), digest(4), vec![], None),
            (4, Some(3), digest(5), vec![], Some(RolledBack)), // the digest does not fit
            (4, Some(2), wrong, vec![restart], Some(Restarted)), // and a restart explains it
            (4, Some(3), wrong, vec![restart], Some(RolledBack)),
            (4, Some(1), digest(4), vec![restart], None), // a digest that fits is enough
            (4, None, digest(4), vec![restart], None),
            (4, Some(2), None, vec![restart], Some(Restarted)), // epoch > e and keep <= i
            (4, None, None, vec![restart], Some(Restarted)), // no epoch: e = 0
            (4, Some(3), None, vec![restart], None), // epoch = e
            (5, Some(2), None, vec![loss], None), // keep = i + 1
            (6, Some(2), None, vec![loss], Some(RolledBack)), // keep = i
            (7, Some(2), None, vec![restart, loss], Some(Restarted)),
            (4, Some(9), None, vec![restart], None),
        ];
        for (next, epoch, digest, cuts, refuted) in table {
            let cursor = Cursor { next: Index(next), epoch: epoch.map(Epoch), digest };
            assert_eq!(cursor.refuted_by(&page(next, &cuts)), refuted, "{cursor:?} {cuts:?}");
        }
        // Text that is gone cannot be compared.
        let trimmed = Page { before: None, ..page(4, &[]) };
        let cursor = Cursor { next: Index(4), epoch: None, digest: wrong };
        assert_eq!(cursor.refuted_by(&trimmed), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Claim(Keep),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..4usize).prop_map(Step::Append),
            1 => Just(Step::Claim(Keep::Tail)),
            1 => Just(Step::Claim(Keep::Nothing)),
        ]
    }

    /// Everything that was ever true of a stream: a client may have stopped at any of these.
    async fn history(steps: &[Step]) -> (Vec<Vec<(Epoch, protocol::Chunk)>>, Writer, Scene) {
        let scene = Scene::default();
        let nodes = [scene.node("a"), scene.node("b")];
        let mut writer = Writer::open(&nodes[0].direct()).await;
        let mut texts = vec![Vec::new()];
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Append(n) => drop(writer.append(*n).await.unwrap()),
                Step::Claim(keep) => {
                    let by = nodes[(at + 1) % 2].direct();
                    writer = writer.taken_by(&by, *keep).await.unwrap();
                }
            }
            let chunks = writer
                .batches
                .iter()
                .flat_map(|batch| batch.chunks.iter().map(|chunk| (batch.epoch, chunk.clone())));
            texts.push(chunks.collect());
        }
        (texts, writer, scene)
    }

    proptest! {
        /// With a digest or with an epoch alone: refuted exactly where it is no prefix of the log.
        #[test]
        fn refuted_where_it_is_no_prefix(
            steps in prop::collection::vec(step(), 1..12),
            moment in any::<prop::sample::Index>(),
            length in any::<prop::sample::Index>(),
            with_digest in any::<bool>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(async {
                let (texts, writer, _scene) = history(&steps).await;
                let whole = moment.get(&texts);
                let mine = &whole[..length.index(whole.len() + 1)];
                let now = texts.last().expect("not empty");
                let next = Index(mine.len() as u64);
                let digest = Digest::EMPTY.with_all(mine.iter().map(|(_, chunk)| chunk));
                let cursor = Cursor {
                    next,
                    epoch: mine.last().map(|(epoch, _)| *epoch),
                    digest: with_digest.then_some(digest),
                };
                let page = writer.handles.log.read(writer.stream, next, 1).await.expect("there");
                let refuted = cursor.refuted_by(&page);
                prop_assert_eq!(refuted.is_none(), now.starts_with(mine), "{:?}", refuted);
                prop_assert!(refuted.is_none_or(|reason| reason == ResetReason::Restarted));
                Ok(())
            })?;
        }
    }
}
