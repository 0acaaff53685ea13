//! From samples to figures: ratios inside a round, medians over the rounds.

use serde_json::{Value, json};

use crate::rounds::{Plan, Sample};

/// A median with the least and the most that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// The middle one.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The most.
    pub(crate) most: f64,
}

impl Figure {
    /// Of some values; nothing if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match sorted.len() % 2 {
            0 => (upper + sorted.get(middle - 1)?) / 2.0,
            _ => upper,
        };
        Some(Self { median, least: *sorted.first()?, most: *sorted.last()? })
    }

    /// Of the ratios of two lists, value by value.
    pub(crate) fn of_ratios(over: impl IntoIterator<Item = f64>, under: impl IntoIterator<Item = f64>) -> Option<Self> {
        Self::of(over.into_iter().zip(under).map(|(over, under)| over / under))
    }

    /// For the file of results.
    pub(crate) fn to_json(self) -> Value {
        json!({ "median": rounded(self.median), "min": rounded(self.least), "max": rounded(self.most) })
    }
}

/// Four significant digits: more would be noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

/// A server's line in a table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The server.
    pub(crate) name: &'static str,
    /// Its requests per second in terms of the mark's.
    pub(crate) ratio: Figure,
    /// Its requests per second.
    pub(crate) per_second: Figure,
    /// Its median latency in microseconds.
    pub(crate) p50: Figure,
    /// Its 99th percentile in microseconds.
    pub(crate) p99: Figure,
    /// Its 99th percentile in terms of the mark's.
    pub(crate) p99_ratio: Figure,
    /// Its processor time per request in microseconds.
    pub(crate) cpu: Figure,
    /// Its processor time per request in terms of the mark's.
    pub(crate) cpu_ratio: Figure,
    /// How much of its core it took.
    pub(crate) busy: Figure,
    /// How many of its samples others left alone.
    pub(crate) quiet: usize,
}

impl Line {
    /// A server's line against the mark's samples of the same rounds; nothing without a round.
    pub(crate) fn of(name: &'static str, samples: &[Sample], mark: &[Sample]) -> Option<Self> {
        let each = |part: fn(&Sample) -> f64| samples.iter().map(part);
        let against = |part: fn(&Sample) -> f64| Figure::of_ratios(each(part), mark.iter().map(part));
        Some(Self {
            name,
            ratio: against(|sample| sample.per_second)?,
            per_second: Figure::of(each(|sample| sample.per_second))?,
            p50: Figure::of(each(|sample| sample.p50))?,
            p99: Figure::of(each(|sample| sample.p99))?,
            p99_ratio: against(|sample| sample.p99)?,
            cpu: Figure::of(each(|sample| sample.cpu))?,
            cpu_ratio: against(|sample| sample.cpu)?,
            busy: Figure::of(each(|sample| sample.busy))?,
            quiet: samples.iter().filter(|sample| sample.foreign < Plan::QUIET).count(),
        })
    }

    /// For the file of results.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "ratio": self.ratio.to_json(),
            "per_second": self.per_second.to_json(),
            "p50_us": self.p50.to_json(),
            "p99_us": self.p99.to_json(),
            "p99_ratio": self.p99_ratio.to_json(),
            "cpu_us": self.cpu.to_json(),
            "cpu_ratio": self.cpu_ratio.to_json(),
            "busy": self.busy.to_json(),
            "quiet_samples": self.quiet,
        })
    }
}

/// Every server's line; the first server is the mark.
pub(crate) fn lines(names: &[&'static str], samples: &[Vec<Sample>]) -> Vec<Line> {
    let Some(mark) = samples.first() else { return Vec::new() };
    names.iter().zip(samples).filter_map(|(name, samples)| Line::of(name, samples, mark)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(per_second: f64, foreign: f64) -> Sample {
        Sample { per_second, p50: 1.0, p99: 2.0, cpu: 1e6 / per_second, busy: 1.0, foreign }
    }

    #[test]
    fn a_ratio_is_taken_inside_a_round_and_then_the_median() {
        // The machine halves its speed in the second round; the ratio does not notice.
        let mark = [100.0, 50.0, 100.0].map(|per_second| sample(per_second, 0.0));
        let faster = [120.0, 60.0, 130.0].map(|per_second| sample(per_second, 0.2));
        let line = Line::of("faster", &faster, &mark).unwrap();
        assert_eq!(line.ratio, Figure { median: 1.2, least: 1.2, most: 1.3 });
        assert_eq!(line.quiet, 0);
        assert_eq!(lines(&["mark", "faster"], &[mark.to_vec(), faster.to_vec()])[0].quiet, 3);
    }

    #[test]
    fn a_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Figure::of([4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
        assert_eq!(Figure::of([]), None);
        assert_eq!(rounded(123_456.0), 123_500.0);
        assert_eq!(rounded(0.012_345), 0.012_35);
    }
}
