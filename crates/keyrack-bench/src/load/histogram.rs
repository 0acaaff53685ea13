//! Latencies in buckets whose width grows with the value.

use std::time::Duration;

/// Each power of two is divided into so many buckets: a value is kept to within 1.6 %.
const STEPS_LOG2: u32 = 6;
const STEPS: usize = 1 << STEPS_LOG2;
const BUCKETS: usize = (64 - STEPS_LOG2 as usize + 1) * STEPS;

/// How many latencies fell into which bucket. Recording one writes one word and allocates nothing.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    recorded: u64,
}

impl Histogram {
    /// Without any latency.
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], recorded: 0 }
    }

    /// Adds one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(nanoseconds)) {
            *bucket += 1;
            self.recorded += 1;
        }
    }

    /// The latency in microseconds that `share` (0 to 1) of all did not exceed; 0 without any.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let wanted = share * self.recorded as f64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return middle_of(bucket) / 1e3;
            }
        }
        0.0
    }
}

/// Values below [`STEPS`] have a bucket each; from there on the top bits choose it.
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    let within = usize::try_from(value >> shift).unwrap_or(usize::MAX);
    shift as usize * STEPS + within
}

/// The value in the middle of a bucket.
fn middle_of(bucket: usize) -> f64 {
    if bucket < 2 * STEPS {
        return bucket as f64;
    }
    let shift = bucket / STEPS - 1;
    let within = bucket - shift * STEPS;
    (within as f64 + 0.5) * (1_u64 << shift) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_near_the_middle_of_its_bucket_and_buckets_rise() {
        let mut before = 0;
        for value in (0..63).flat_map(|power| [1_u64 << power, (1 << power) + (1 << power) / 3, (2 << power) - 1]) {
            let bucket = bucket_of(value);
            assert!(bucket >= before && bucket < BUCKETS, "{value}");
            before = bucket;
            assert!((middle_of(bucket) - value as f64).abs() <= value as f64 / STEPS as f64, "{value}");
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Histogram::new();
        assert_eq!(latencies.percentile(0.5), 0.0);
        for microseconds in 1..=1_000 {
            latencies.record(Duration::from_micros(microseconds));
        }
        for (share, microseconds) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            assert!((latencies.percentile(share) / microseconds - 1.0).abs() < 0.02);
        }
    }
}
