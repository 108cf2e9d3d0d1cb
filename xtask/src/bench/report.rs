//! The result: a table for people, the same on the terminal and in the document.

use super::measures::Sample;
use crate::document::circumstances;
use std::time::Duration;

/// One line of the table.
pub(super) struct Row {
    pub(super) measure: String,
    pub(super) measured: String,
    pub(super) floor: String,
    pub(super) ratio: String,
    pub(super) reach: String,
    /// `None`: measured for comparison, without a reach.
    pub(super) met: Option<bool>,
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        [&self.measure, &self.measured, &self.floor, &self.ratio, &self.reach, met]
            .map(|cell| cell.to_string())
    }
}

/// All rows, and under which circumstances they came about.
pub(super) struct Report {
    circumstances: String,
    /// What the measured is compared with: head of that column.
    beside: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
    samples: Vec<Sample>,
}

impl Report {
    pub(super) fn new(
        command: &str,
        beside: &'static str,
        rounds: usize,
        window: Option<Duration>,
    ) -> Self {
        let mut circumstances = format!("{} · {rounds} rounds", circumstances(command));
        if let Some(window) = window {
            circumstances += &format!(", windows of {} s", window.as_secs());
        }
        Self { circumstances, beside, rows: Vec::new(), notes: Vec::new(), samples: Vec::new() }
    }

    pub(super) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// A row of a load: the median over the rounds of server ÷ floor counts.
    pub(super) fn compared(&mut self, name: &str, pairs: &[(Sample, Sample)], reach: f64) {
        let of = |pick: fn(&(Sample, Sample)) -> f64| pairs.iter().map(pick).collect::<Vec<_>>();
        let ratios = of(|(server, floor)| server.micros / floor.micros);
        let ratio = median(&ratios);
        let frames = median(&of(|(server, _)| server.chunks_a_frame));
        let (server, floor) = (of(|(server, _)| server.micros), of(|(_, floor)| floor.micros));
        self.row(Row {
            measure: format!("CPU a delivered chunk: {name}"),
            measured: format!("**{ratio:.2} × floor** ({:.2} µs)", median(&server)),
            // How much the floor itself moved is the noise of this machine.
            floor: format!("{:.2} µs ({})", median(&floor), range(&floor, 2)),
            ratio: spread(&ratios, 2),
            reach: format!("≤ {reach} × floor"),
            met: Some(ratio <= reach),
        });
        self.note(format!("{name}: {frames:.2} chunks a frame"));
        self.samples(pairs.iter().flat_map(|(server, floor)| [server, floor]));
    }

    /// Windows from which a row came.
    pub(super) fn samples<'a>(&mut self, samples: impl Iterator<Item = &'a Sample>) {
        self.samples.extend(samples);
    }

    /// Whether every measure reached its mark.
    pub(super) fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// The table and what belongs to it.
    pub(super) fn markdown(&self) -> String {
        let judged = self.rows.iter().filter(|row| row.met.is_some()).count();
        let missed = self.rows.iter().filter(|row| row.met == Some(false)).count();
        let verdict = match missed {
            0 => "All measures met.".to_owned(),
            _ => format!("{missed} of {judged} measures **missed**."),
        };
        let quiet = Some(self.quiet()).filter(|_| !self.samples.is_empty());
        let notes: String =
            self.notes.iter().chain(&quiet).map(|note| format!("- {note}\n")).collect();
        let table = table(self.beside, &self.rows);
        format!("{}\n\n{table}\n{verdict}\n\n{notes}", self.circumstances)
    }

    /// How quiet the machine was, without which no figure means anything.
    fn quiet(&self) -> String {
        let of = |pick: fn(&Sample) -> f64| self.samples.iter().map(pick).collect::<Vec<_>>();
        let share = |values: Vec<f64>| {
            let most = values.iter().copied().fold(0.0, f64::max);
            format!("{:.1} % (at most {:.1} %)", 100.0 * median(&values), 100.0 * most)
        };
        format!(
            "in the windows other processes used {} of the machine, its host took {}, the load \
             generator used {} of a core",
            share(of(|sample| sample.others)),
            share(of(|sample| sample.steal)),
            share(of(|sample| sample.generator))
        )
    }
}

/// A markdown table with aligned columns, so that it also reads well on a terminal.
fn table(beside: &str, rows: &[Row]) -> String {
    let head = ["measure", "measured", beside, "rounds", "reach", ""];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (at, cells) in lines.iter().enumerate() {
        for (cell, width) in cells.iter().zip(widths) {
            text += &format!("| {cell:width$} ");
        }
        text += "|\n";
        if at == 0 {
            text += &widths.map(|width| format!("|{}", "-".repeat(width + 2))).concat();
            text += "|\n";
        }
    }
    text
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

/// The smallest value that so great a share of all does not exceed.
pub(super) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The least and the most.
pub(super) fn range(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.digits$}–{most:.digits$}")
}

/// The values in the order of the rounds: shows drift and outliers as they are.
pub(super) fn spread(values: &[f64], digits: usize) -> String {
    values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(micros: f64) -> Sample {
        Sample { micros, chunks_a_frame: 1.0, generator: 0.2, steal: 0.0, others: 0.1 }
    }

    #[test]
    fn the_median_of_the_ratios_of_each_round_decides() {
        let pairs: Vec<_> =
            [(9.0, 6.0), (20.0, 20.0), (18.0, 10.0)].map(|(s, f)| (sample(s), sample(f))).into();
        let mut report = Report::new("make bench", "floor", 3, Some(Duration::from_secs(6)));
        report.compared("x", &pairs, 1.5);
        assert!(report.met());
        assert_eq!(report.rows[0].ratio, "1.50 · 1.00 · 1.80");
        let text = report.markdown();
        assert!(text.contains("**1.50 × floor** (18.00 µs)"), "{text}");
        assert!(text.contains("10.00 µs (6.00–20.00)"), "{text}");
        report.compared("y", &pairs, 1.4);
        assert!(!report.met());
        assert!(report.markdown().contains("1 of 2 measures **missed**."));
    }

    #[test]
    fn columns_line_up_also_with_wide_characters() {
        let row = |measure: &str| Row {
            measure: measure.to_owned(),
            measured: "5 µs".to_owned(),
            floor: String::new(),
            ratio: String::new(),
            reach: "≤ 1".to_owned(),
            met: Some(false),
        };
        let text = table("floor", &[row("short"), row("a longer one · ×")]);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    }

    #[test]
    fn the_median_of_few_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 0.99), percentile(&values, 0.5)), (198.0, 100.0));
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert!(percentile(&[], 0.99).is_nan());
    }

    #[test]
    fn a_row_without_a_reach_is_neither_met_nor_missed() {
        let mut report = Report::new("make bench", "beside", 3, None);
        let (measure, measured) = ("a".to_owned(), "b".to_owned());
        let [floor, ratio, reach] = [(); 3].map(|()| String::new());
        report.row(Row { measure, measured, floor, ratio, reach, met: None });
        assert!(report.met());
        let text = report.markdown();
        assert!(text.contains("| beside |") && text.contains("All measures met."), "{text}");
        assert!(!text.contains("NaN"), "{text}");
    }
}
