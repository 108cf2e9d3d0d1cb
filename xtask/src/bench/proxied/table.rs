//! What the rounds of the proxied path say, as rows of the table.

use super::super::report::{Report, Row, median, percentile, range, spread};
use super::Measured;
use super::pace::RATE;
use super::round::Round;
use super::upstream::STREAMS;

/// Reach of CPU a chunk, as a multiple of the relay's.
const CPU_REACH: f64 = 1.3;
/// Reach of what is added to the relay's median time, in microseconds.
const ADDED_REACH: f64 = 60.0;

pub(super) fn write(measured: &Measured, report: &mut Report) {
    let Measured { node, relay, direct, peers } = measured;
    cpu(node, relay, report);
    report.row(time("p50", p50, Some(ADDED_REACH), (node, relay)));
    report.row(time("p99", p99, None, (node, relay)));
    for (name, theirs) in peers {
        beside(node, name, theirs, report);
    }
    let ratios = pairs(node, relay, |node, relay| node.waking / relay.waking);
    report.note(format!(
        "where the readers sleep in the kernel and each chunk wakes one: {:.1} µs of CPU a chunk, the \
         relay {:.1} µs, {:.2} ×",
        median(&of(node, |round| round.waking)),
        median(&of(relay, |round| round.waking)),
        median(&ratios)
    ));
    let (p50, p99) = (median(&of(direct, p50)), median(&of(direct, p99)));
    report.note(format!("with nothing in between a chunk takes p50 {p50:.0} µs, p99 {p99:.0} µs"));
    let frames = median(&of(node, |round| round.sample.chunks_a_frame));
    report.note(format!("{frames:.2} chunks a frame"));
    report.samples(node.iter().chain(relay).map(|round| &round.sample));
}

fn cpu(node: &[Round], relay: &[Round], report: &mut Report) {
    let ratios = pairs(node, relay, |node, relay| node.sample.micros / relay.sample.micros);
    let ratio = median(&ratios);
    let theirs = of(relay, micros);
    report.row(Row {
        measure: format!("CPU a proxied chunk: {STREAMS} streams, {RATE}/s each"),
        measured: format!("**{ratio:.2} × relay** ({:.2} µs)", median(&of(node, micros))),
        floor: format!("relay {:.2} µs ({})", median(&theirs), range(&theirs, 2)),
        ratio: spread(&ratios, 2),
        reach: format!("≤ {CPU_REACH} × relay"),
        met: Some(ratio <= CPU_REACH),
    });
}

/// `name` is that of the percentile which `pick` takes.
fn time(
    name: &str,
    pick: fn(&Round) -> f64,
    reach: Option<f64>,
    (node, relay): (&[Round], &[Round]),
) -> Row {
    let added = pairs(node, relay, |node, relay| pick(node) - pick(relay));
    let theirs = of(relay, pick);
    let most = median(&added);
    Row {
        measure: format!("from the provider's write of a chunk to the client's read, {name}"),
        measured: format!("**relay {most:+.0} µs** ({:.0} µs)", median(&of(node, pick))),
        floor: format!("relay {:.0} µs ({})", median(&theirs), range(&theirs, 0)),
        ratio: spread(&added, 0),
        reach: reach.map(|reach| format!("≤ relay + {reach:.0} µs")).unwrap_or_default(),
        met: reach.map(|reach| most <= reach),
    }
}

fn beside(node: &[Round], name: &str, theirs: &[Round], report: &mut Report) {
    let row = |measure, measured, beside, ratios: &[f64]| Row {
        measure,
        measured,
        floor: beside,
        ratio: spread(ratios, 1),
        reach: "rounds: theirs ÷ ours".to_owned(),
        met: None,
    };
    let cpu = |rounds: &[Round]| format!("{:.1} µs", median(&of(rounds, micros)));
    report.row(row(
        format!("CPU a proxied chunk beside {name}"),
        cpu(node),
        cpu(theirs),
        &pairs(theirs, node, |theirs, node| theirs.sample.micros / node.sample.micros),
    ));
    let time = |rounds: &[Round]| {
        let (p50, p99) = (median(&of(rounds, p50)), median(&of(rounds, p99)));
        format!("p50 {p50:.0} µs, p99 {p99:.0} µs")
    };
    report.row(row(
        format!("from the provider's write to the client's read beside {name}"),
        time(node),
        time(theirs),
        &pairs(theirs, node, |theirs, node| p50(theirs) / p50(node)),
    ));
}

fn micros(round: &Round) -> f64 {
    round.sample.micros
}

fn p50(round: &Round) -> f64 {
    median(&round.times)
}

fn p99(round: &Round) -> f64 {
    percentile(&round.times, 0.99)
}

fn of(rounds: &[Round], pick: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(pick).collect()
}

/// Of two that were measured in the same round.
fn pairs(a: &[Round], b: &[Round], pick: impl Fn(&Round, &Round) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| pick(a, b)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::measures::Sample;
    use super::*;

    fn round(micros: f64, time: f64) -> Round {
        let sample =
            Sample { micros, chunks_a_frame: 1.0, generator: 0.1, steal: 0.0, others: 0.0 };
        // 98 of a hundred are as fast as that.
        let times = (0..100).map(|at| if at < 98 { time } else { 10.0 * time }).collect();
        Round { sample, waking: 2.0 * micros, times, pace: 1.0 }
    }

    #[test]
    fn ratios_and_differences_of_each_round_decide() {
        let node = vec![round(12.0, 80.0), round(30.0, 90.0), round(13.0, 100.0)];
        let relay = vec![round(10.0, 30.0), round(20.0, 60.0), round(10.0, 20.0)];
        let direct = vec![round(0.0, 10.0); 3];
        let peers = vec![("other 1.0".to_owned(), vec![round(120.0, 800.0); 3])];
        let mut report = Report::new("make bench", "beside", 3, None);
        write(&Measured { node, relay, direct, peers }, &mut report);
        let text = report.markdown();
        assert!(report.met(), "{text}");
        for part in [
            "**1.30 × relay** (13.00 µs)",
            "1.20 · 1.50 · 1.30",
            "**relay +50 µs** (90 µs)",
            "50 · 30 · 80",
            "**relay +500 µs** (900 µs)",
            "CPU a proxied chunk beside other 1.0",
            "10.0 · 4.0 · 9.2",
            "p50 800 µs, p99 8000 µs",
            "26.0 µs of CPU a chunk, the relay 20.0 µs, 1.30 ×",
            "p50 10 µs, p99 100 µs",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
