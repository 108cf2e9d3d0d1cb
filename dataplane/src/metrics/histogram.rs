//! A histogram without a lock: an append of every live answer is observed in it.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds in whole numbers of something small, and how many of those make one of the metric's
/// unit: milliseconds and 1,000 for a histogram of seconds.
#[derive(Debug)]
pub(super) struct Scale {
    pub(super) bounds: &'static [u64],
    pub(super) per_unit: f64,
}

/// Observing costs two relaxed additions. A scrape may see one of the two first.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scale: &'static Scale,
    /// One for each bound, and one for what is above all of them.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(scale: &'static Scale) -> Self {
        let buckets = (0..=scale.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { scale, buckets, sum: AtomicU64::new(0) }))
    }

    /// `value` in what the bounds are in.
    pub(super) fn observe(&self, value: u64) {
        let at = self.0.scale.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.0.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.0.sum.fetch_add(value, Ordering::Relaxed);
        }
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        let Inner { scale, buckets, sum } = &*self.0;
        let bounds = scale.bounds.iter().map(|bound| *bound as f64 / scale.per_unit);
        let counts = buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum.load(Ordering::Relaxed) as f64 / scale.per_unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::{Registry, Unit};

    #[test]
    fn a_value_on_a_bound_is_under_it_and_one_above_all_is_counted() {
        const SCALE: Scale = Scale { bounds: &[10, 2_500], per_unit: 1e3 };
        let histogram = Histogram::new(&SCALE);
        for value in [0, 10, 11, 2_500, 9_000] {
            histogram.observe(value);
        }
        let mut registry = Registry::default();
        registry.register_with_unit("wait", "How long", Unit::Seconds, histogram);
        let mut found = String::new();
        text::encode(&mut found, &registry).unwrap();
        for line in [
            "# TYPE wait_seconds histogram",
            "wait_seconds_sum 11.521",
            "wait_seconds_count 5",
            "wait_seconds_bucket{le=\"0.01\"} 2",
            "wait_seconds_bucket{le=\"2.5\"} 4",
            "wait_seconds_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(found.lines().any(|one| one == line), "no line {line} in\n{found}");
        }
    }
}
