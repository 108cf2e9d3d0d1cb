//! One scenario for each bug: the smallest play in which it does harm.

use super::stage::{
    Judged, Resumed, Setting, Stage, finish, judge_all, play, quick, until_chunks, until_end,
    until_event,
};
use client::session::Event;
use protocol::settings::TakeoverPolicy;
use std::time::Duration;
use streamlog::chaos::{Faults, Op};

/// Sockets that are cut again and again while the store answers slowly: a naive follower loses what
/// is appended between its read and its subscription.
pub(crate) fn sockets_cut(at: Setting) -> Judged {
    play(async {
        let mut settings = quick();
        settings.stream.coalesce_ms = 0;
        let text = "[sim tokens=300 rate=200 seed=5 vary=epoch]";
        let mut stage = Stage::new(at, settings, text).await;
        let slow = Duration::from_millis(4);
        for control in &stage.controls {
            control.set(Faults { delay_call: slow, delay_ack: slow, ..Faults::NONE });
        }
        let mut first = stage.device(0);
        let message = stage.ask(&mut first, "cut").await;
        let others = [stage.follower(1, message, 0), stage.follower(0, message, 0)];
        let devices = [first].into_iter().chain(others).collect();
        finish(devices, message, Some(Duration::from_millis(150))).await
    })
}

/// Devices that join at any index: without dedupe by index a batch is sent whole again.
pub(crate) fn joins_anywhere(at: Setting) -> Judged {
    play(async {
        let text = "[sim tokens=200 rate=400 seed=5 vary=epoch]";
        let mut stage = Stage::new(at, quick(), text).await;
        let mut first = stage.device(0);
        let message = stage.ask(&mut first, "join").await;
        until_chunks(&mut first, message, 60).await;
        let joined = [7, 18, 33].map(|from| stage.follower(1, message, from));
        let devices = [first].into_iter().chain(joined).collect();
        finish(devices, message, None).await
    })
}

/// An owner that the store does not answer for longer than its lease, and then does: without a
/// fence its late writes land in what is another node's by now.
pub(crate) fn owner_stalls(at: Setting) -> Judged {
    play(async {
        let text = "[sim tokens=200 rate=60 seed=5 vary=epoch]";
        let mut stage = Stage::new(at, quick(), text).await;
        let mut first = stage.device(0);
        let message = stage.ask(&mut first, "stall").await;
        let mut second = stage.follower(1, message, 0);
        until_chunks(&mut second, message, 20).await;
        stage.controls[0].stall();
        until_event(&mut second, |event| matches!(event, Event::Takeover(_))).await;
        until_chunks(&mut second, message, 60).await;
        stage.controls[0].resume();
        finish(vec![first, second], message, None).await
    })
}

/// An owner killed while an append is on its way: what its followers saw must be in the log.
pub(crate) fn owner_dies_unacknowledged(at: Setting) -> Judged {
    play(async {
        let text = "[sim tokens=150 rate=60 seed=5 vary=epoch]";
        let mut stage = Stage::new(at, quick(), text).await;
        let mut first = stage.device(0);
        let message = stage.ask(&mut first, "die").await;
        until_chunks(&mut first, message, 20).await;
        let mut held = stage.controls[0].hold_next_append(false);
        held.reached().await;
        let _ = tokio::time::timeout(Duration::from_millis(200), async {
            while first.next().await.is_some() {}
        })
        .await;
        stage.fleet.kill(0).await;
        finish(vec![first], message, None).await
    })
}

/// A seal that the store refuses once: it must be written all the same.
pub(crate) fn seal_refused(at: Setting) -> Judged {
    play(async {
        let text = "[sim tokens=30 rate=60 seed=5 vary=epoch]";
        let mut stage = Stage::new(at, quick(), text).await;
        stage.controls[0].refuse_next(Op::Seal, 1);
        let mut first = stage.device(0);
        let message = stage.ask(&mut first, "seal").await;
        let second = stage.follower(1, message, 0);
        finish(vec![first, second], message, None).await
    })
}

/// One request sent to two nodes: the second must find the first one's answer, not start it over.
pub(crate) fn request_twice(at: Setting) -> Judged {
    play(async {
        let text = "[sim tokens=150 rate=60 seed=5 vary=epoch]";
        let mut stage = Stage::new(at, quick(), text).await;
        let mut first = stage.device(0);
        let message = stage.ask(&mut first, "twice").await;
        until_chunks(&mut first, message, 30).await;
        let mut second = stage.device(1);
        let again = stage.ask(&mut second, "twice").await;
        assert_eq!(again, message);
        finish(vec![first, second], message, None).await
    })
}

/// A device that resumes at a node which still believes that it owns the answer.
pub(crate) fn resume_at_a_zombie(at: Setting) -> Judged {
    play(async {
        let mut settings = quick();
        settings.ownership.takeover = TakeoverPolicy::Restart;
        let text = "[sim tokens=200 rate=60 seed=5 vary=epoch]";
        let mut stage = Stage::new(at, settings, text).await;
        let mut first = stage.device(0);
        let message = stage.ask(&mut first, "zombie").await;
        let mut second = stage.follower(1, message, 0);
        until_chunks(&mut second, message, 20).await;
        stage.controls[0].stall();
        until_event(&mut second, |event| matches!(event, Event::Reset(_))).await;
        until_chunks(&mut second, message, 10).await;
        let mut resumed = Resumed::at(&stage, 0, second, message).await;
        resumed.read_for(Duration::from_millis(500)).await;
        stage.controls[0].resume();
        resumed.read_for(Duration::from_secs(8)).await;
        until_end(&mut first, message, None).await;
        let transcripts = [first.observer().take(message), resumed.recorder.take(message)];
        judge_all(&transcripts)
    })
}
