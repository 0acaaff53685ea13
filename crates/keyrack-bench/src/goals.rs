//! What has been promised, beside what was measured.

use serde_json::{Value, json};

/// On which side of a number a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// A promise and its figure.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// What is measured, with its unit.
    pub(crate) what: String,
    /// What is promised.
    pub(crate) bound: Bound,
    /// What was seen; nothing if this run did not measure it.
    pub(crate) seen: Option<f64>,
}

impl Goal {
    /// A goal that is met by so much or more.
    pub(crate) fn at_least(what: impl Into<String>, least: f64, seen: Option<f64>) -> Self {
        Self { what: what.into(), bound: Bound::AtLeast(least), seen }
    }

    /// A goal that is met by so much or less.
    pub(crate) fn at_most(what: impl Into<String>, most: f64, seen: Option<f64>) -> Self {
        Self { what: what.into(), bound: Bound::AtMost(most), seen }
    }

    /// Whether it is met, if it was measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let seen = self.seen?;
        Some(match self.bound {
            Bound::AtLeast(least) => seen >= least,
            Bound::AtMost(most) => seen <= most,
        })
    }

    /// Its line of a Markdown table.
    pub(crate) fn to_markdown(&self) -> String {
        let goal = match self.bound {
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::AtMost(most) => format!("≤ {most}"),
        };
        let seen = self.seen.map_or_else(|| "–".to_owned(), shown);
        let met = match self.is_met() {
            None => "not measured",
            Some(true) => "pass",
            Some(false) => "**miss**",
        };
        format!("| {} | {goal} | {seen} | {met} |", self.what)
    }

    /// For the file of results.
    pub(crate) fn to_json(&self) -> Value {
        let (bound, value) = match self.bound {
            Bound::AtLeast(least) => ("at_least", least),
            Bound::AtMost(most) => ("at_most", most),
        };
        json!({ "what": self.what, bound: value, "seen": self.seen, "met": self.is_met() })
    }
}

/// As many digits as say something.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_says_pass_miss_or_not_measured() {
        assert_eq!(Goal::at_least("a", 1.1, Some(1.1)).to_markdown(), "| a | ≥ 1.1 | 1.10 | pass |");
        assert_eq!(Goal::at_least("a", 1.1, Some(1.0)).to_markdown(), "| a | ≥ 1.1 | 1.00 | **miss** |");
        assert_eq!(Goal::at_most("a", 150.0, Some(150.0)).to_markdown(), "| a | ≤ 150 | 150 | pass |");
        assert_eq!(Goal::at_most("a", 150.0, Some(151.0)).to_markdown(), "| a | ≤ 150 | 151 | **miss** |");
        assert_eq!(Goal::at_most("a", 150.0, None).to_markdown(), "| a | ≤ 150 | – | not measured |");
    }
}
