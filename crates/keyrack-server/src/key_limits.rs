//! A key's limit as it is written: `{name, limit, period, burst}`, on the wire and in the store.

use std::borrow::Cow;

use keyrack::{BadLimit, Limit, MOST_LIMITS, MOST_OWN_LIMITS, Period};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A limit on the wire.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Limit)]
pub struct LimitBody<'a> {
    /// 1 to 64 characters of `a-z`, `0-9`, `-` and `_`; no two limits of a key have one name.
    #[schema(example = "requests", pattern = "^[a-z0-9_-]{1,64}$")]
    name: Cow<'a, str>,
    /// Uses per period.
    #[schema(example = 100, minimum = 1)]
    limit: u64,
    /// `1s` to `31d` (s, m, h, d) for a rate; `day` or `month` of the calendar, in UTC, for a quota.
    #[schema(example = "1m", pattern = "^([0-9]+[smhd]|day|month)$")]
    period: Cow<'a, str>,
    /// Most uses at once, of a rate; as many as `limit` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 20, minimum = 1, nullable = false)]
    burst: Option<u64>,
}

impl<'a> LimitBody<'a> {
    /// What is said of something that is not written like a limit.
    pub const SHAPE: &'static str = "must be an object of name, limit, period and burst, such as {\"name\": \"requests\", \"limit\": 100, \"period\": \"1m\"}";

    /// The field that is out of range.
    pub const fn field_of(bad: BadLimit) -> &'static str {
        match bad {
            BadLimit::Name => "name",
            BadLimit::Limit => "limit",
            BadLimit::Period => "period",
            BadLimit::Burst | BadLimit::BurstOfQuota => "burst",
        }
    }

    /// How a limit is written.
    pub fn of(limit: &'a Limit) -> Self {
        let is_rate = matches!(limit.period(), Period::Seconds(_));
        Self {
            name: limit.name().into(),
            limit: limit.limit(),
            period: limit.period().to_string().into(),
            burst: is_rate.then(|| limit.burst()),
        }
    }

    /// The limit that is written.
    ///
    /// # Errors
    /// [`BadLimit`] says what is out of range.
    pub fn limit(&self) -> Result<Limit, BadLimit> {
        Limit::new(&self.name, self.limit, self.period.parse()?, self.burst)
    }
}

/// Reads one limit: `name=limit/period` or `name=limit/period:burst`.
///
/// # Errors
/// What is wrong with it.
pub fn of_word(word: &str) -> Result<Limit, String> {
    const SHAPE: &str = "must be NAME=LIMIT/PERIOD or NAME=LIMIT/PERIOD:BURST, such as requests=100/1m:20";
    let parts = || {
        let (name, rest) = word.split_once('=')?;
        let (limit, rest) = rest.split_once('/')?;
        let (period, burst) = rest.split_once(':').map_or((rest, None), |(period, burst)| (period, Some(burst)));
        Some((name, limit.parse().ok()?, period, burst.map(str::parse).transpose().ok()?))
    };
    let (name, limit, period, burst) = parts().ok_or(SHAPE)?;
    let made = period.parse().and_then(|period| Limit::new(name, limit, period, burst));
    made.map_err(|bad| format!("{} {bad}", LimitBody::field_of(bad)))
}

/// Reads the limits of a setting: [`of_word`], with spaces between them.
pub fn of_setting(text: &str) -> Option<Vec<Limit>> {
    let limits: Vec<_> = text.split_ascii_whitespace().map(of_word).collect::<Result<_, _>>().ok()?;
    let names: std::collections::HashSet<_> = limits.iter().map(Limit::name).collect();
    (names.len() == limits.len() && limits.len() <= MOST_LIMITS - MOST_OWN_LIMITS).then_some(limits)
}

/// How a setting of these limits is written.
pub fn setting_of(limits: &[Limit]) -> String {
    let word = |limit: &Limit| {
        let burst = if limit.window().is_none() { format!(":{}", limit.burst()) } else { String::new() };
        format!("{}={}/{}{burst}", limit.name(), limit.limit(), limit.period())
    };
    limits.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_whole_or_not_at_all() {
        let read = of_setting("requests=100/1m:20  monthly=50000/month").unwrap();
        let written = serde_json::to_string(&read.iter().map(LimitBody::of).collect::<Vec<_>>()).unwrap();
        let expected = r#"[{"name":"requests","limit":100,"period":"1m","burst":20},{"name":"monthly","limit":50000,"period":"month"}]"#;
        assert_eq!(written, expected);
        assert_eq!(setting_of(&read), "requests=100/1m:20 monthly=50000/month");
        assert_eq!(of_setting(""), Some(Vec::new()));
        for wrong in ["requests", "requests=1", "r=1/1m:", "r=1/1m r=2/1m", "r=x/1m", "r=1/month:3", "R=1/1m"] {
            assert_eq!(of_setting(wrong), None, "{wrong}");
        }
    }
}
