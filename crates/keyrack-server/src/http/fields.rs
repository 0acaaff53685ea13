//! Taking the fields of a JSON object one by one, and noting everything that is wrong with them.

use std::str::FromStr;

use keyrack::policy::is_permission;
use keyrack::{Limit, MOST_OWN_LIMITS, Permissions, UnknownWord};
use serde_json::Value;

use super::body::{AsObject, Object};
use super::problem::{Code, Fault, Problem};
use crate::key_limits::LimitBody;
use crate::secrets::{NO_KEY, holds_a_key, holds_a_key_in_lower_case};

/// Somebody may put a key where a field's name belongs, or a good part of one, in whatever case. Words have no digits, and
/// keys have: a long name that could be of a key is not repeated.
pub(super) fn may_be_repeated(name: &str) -> bool {
    const MOST_OF_A_KEY: usize = 12;
    const MOST_OF_A_WORD: usize = 64;
    let is_word = name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-.".contains(&byte));
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    is_word && name.len() <= MOST_OF_A_WORD || is_plain && name.len() <= MOST_OF_A_KEY
}

/// The fields not taken yet, and the faults so far.
pub(crate) struct Fields {
    left: Vec<(String, Value)>,
    faults: Vec<Fault>,
}

impl Fields {
    /// All fields of an object.
    pub(crate) fn of(object: Object) -> Self {
        Self { left: object.0, faults: Vec::new() }
    }

    /// Takes a field that may be left out. `None` if it was, or if it was sent twice, which is a fault.
    pub(super) fn take(&mut self, param: &str) -> Option<Value> {
        let mut sent = Vec::new();
        self.left.retain_mut(|(name, value)| {
            let is_it = name == param;
            if is_it {
                sent.push(value.take());
            }
            !is_it
        });
        if sent.len() > 1 {
            self.fault(param, Code::ParameterInvalidFormat, "is there more than once");
            return None;
        }
        sent.pop()
    }

    /// Takes a field that is a word of a closed list.
    pub(super) fn word<T: FromStr<Err = UnknownWord>>(&mut self, param: &str) -> Option<T> {
        match self.take(param)?.as_str().unwrap_or_default().parse() {
            Ok(word) => Some(word),
            Err(unknown) => {
                self.fault(param, Code::ParameterInvalidFormat, unknown.to_string());
                None
            }
        }
    }

    /// Takes a field that is one line of text of 1 to `most` characters after trimming.
    pub(super) fn line(&mut self, param: &str, most: usize) -> Option<String> {
        let value = self.take(param)?;
        let Some(text) = value.as_str().map(str::trim) else {
            self.fault(param, Code::ParameterInvalidFormat, "must be a string");
            return None;
        };
        if text.is_empty() {
            self.fault(param, Code::ParameterInvalidEmpty, "must not be empty");
            None
        } else if text.chars().count() > most {
            self.fault(param, Code::ParameterInvalidFormat, format!("must have at most {most} characters"));
            None
        } else if holds_a_key(text) {
            self.fault(param, Code::ParameterInvalidFormat, NO_KEY);
            None
        } else if text.chars().any(char::is_control) {
            self.fault(param, Code::ParameterInvalidFormat, "must not contain control characters");
            None
        } else {
            Some(text.to_owned())
        }
    }

    /// Takes a field that is one line of text with a form of its own.
    pub(super) fn line_that(
        &mut self,
        param: &str,
        most: usize,
        is_good: impl Fn(&str) -> bool,
        message: &str,
    ) -> Option<String> {
        let text = self.line(param, most)?;
        if !is_good(&text) {
            self.fault(param, Code::ParameterInvalidFormat, message);
            return None;
        }
        Some(text)
    }

    /// Takes a field that is one line of text with a form of its own, or null. The outer `None` says it was left out.
    #[expect(clippy::option_option, reason = "left out and null mean different things in a patch")]
    pub(super) fn line_or_null(
        &mut self,
        param: &str,
        most: usize,
        is_good: impl Fn(&str) -> bool,
        message: &str,
    ) -> Option<Option<String>> {
        if self.left.iter().any(|(name, value)| name == param && value.is_null()) {
            return self.take(param).map(|_null| None);
        }
        self.line_that(param, most, is_good, message).map(Some)
    }

    /// Takes a field that is true, false or null. The outer `None` says it was left out.
    #[expect(clippy::option_option, reason = "left out and null mean different things in a patch")]
    pub(super) fn flag_or_null(&mut self, param: &str) -> Option<Option<bool>> {
        match self.take(param)? {
            Value::Null => Some(None),
            Value::Bool(flag) => Some(Some(flag)),
            Value::String(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.fault(param, Code::ParameterInvalidFormat, "must be true, false or null");
                None
            }
        }
    }

    /// Takes a field that is text of at most so many characters, or null. The outer `None` says it was left out.
    #[expect(clippy::option_option, reason = "left out and null mean different things in a patch")]
    pub(super) fn text_or_null(&mut self, param: &str, most: usize) -> Option<Option<String>> {
        match self.take(param)? {
            Value::Null => Some(None),
            Value::String(text) if text.chars().count() > most => {
                self.fault(param, Code::ParameterInvalidFormat, format!("must have at most {most} characters"));
                None
            }
            Value::String(text) if holds_a_key(&text) => {
                self.fault(param, Code::ParameterInvalidFormat, NO_KEY);
                None
            }
            Value::String(text) if text.contains('\0') => {
                self.fault(param, Code::ParameterInvalidFormat, "must not contain U+0000");
                None
            }
            Value::String(text) => Some(Some(text)),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.fault(param, Code::ParameterInvalidFormat, "must be a string or null");
                None
            }
        }
    }

    /// Takes a field that is a list of permissions.
    pub(super) fn permissions(&mut self, param: &str) -> Option<Permissions> {
        let items = self.list(param, Permissions::MOST, false)?;
        let mut words = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match item.as_str().filter(|word| is_permission(word)) {
                Some(word) => words.push(word),
                None => self.fault(
                    &format!("{param}.{at}"),
                    Code::ParameterInvalidFormat,
                    "must be resource:action, each 1 to 64 characters of a-z, 0-9, `_`, `.` and `-`",
                ),
            }
        }
        let permissions = Permissions::new(words);
        if permissions.iter().any(holds_a_key_in_lower_case) {
            self.fault(param, Code::ParameterInvalidFormat, NO_KEY);
        }
        Some(permissions)
    }

    /// Takes a field that is a list of limits; they come back in the order of their names.
    pub(super) fn limits(&mut self, param: &str) -> Option<Vec<Limit>> {
        let items = self.list(param, MOST_OWN_LIMITS, false)?;
        let mut limits: Vec<Limit> = Vec::with_capacity(items.len());
        for (at, item) in items.into_iter().enumerate() {
            let here = format!("{param}.{at}");
            let body: LimitBody<'static> = match serde_json::from_value(item) {
                Ok(AsObject(body)) => body,
                Err(_of_another_shape) => {
                    self.fault(&here, Code::ParameterInvalidFormat, LimitBody::SHAPE);
                    continue;
                }
            };
            match body.limit() {
                Ok(limit) if limits.iter().any(|known| known.name() == limit.name()) => {
                    self.fault(&format!("{here}.name"), Code::ParameterInvalidFormat, "is the name of another limit");
                }
                Ok(limit) => limits.push(limit),
                Err(bad) => {
                    let field = LimitBody::field_of(bad);
                    self.fault(&format!("{here}.{field}"), Code::ParameterInvalidFormat, bad.to_string());
                }
            }
        }
        limits.sort_by(|one, other| one.name().cmp(other.name()));
        Some(limits)
    }

    /// Takes a field that is a whole number.
    pub(super) fn number(&mut self, param: &str) -> Option<u32> {
        let number = self.take(param)?.as_u64().and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            self.fault(param, Code::ParameterInvalidFormat, "must be a whole number");
        }
        number
    }

    /// Takes a field that is a list of at most so many entries, and may have to be there.
    pub(crate) fn list(&mut self, param: &str, most: usize, is_required: bool) -> Option<Vec<Value>> {
        let taken = self.take(param);
        let value = if is_required { self.require(param, taken) } else { taken };
        match value? {
            Value::Array(items) if items.len() <= most => Some(items),
            Value::Array(_) => {
                self.fault(param, Code::ParameterInvalidFormat, format!("must have at most {most} entries"));
                None
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                self.fault(param, Code::ParameterInvalidFormat, "must be a list");
                None
            }
        }
    }

    /// Takes a field that may be null unless it has to be there, and notes if it is not what it must be. Says whether it was there.
    pub(crate) fn must_be(
        &mut self,
        param: &str,
        is_required: bool,
        is_it: impl Fn(&Value) -> bool,
        message: &str,
    ) -> bool {
        let value = self.take(param).filter(|value| is_required || !value.is_null());
        match if is_required { self.require(param, value) } else { value } {
            None => false,
            Some(value) => {
                if !is_it(&value) {
                    self.fault(param, Code::ParameterInvalidFormat, message);
                }
                true
            }
        }
    }

    /// Notes that a field is missing, and why it is needed.
    pub(crate) fn missing(&mut self, param: &str, message: &str) {
        self.fault(param, Code::ParameterMissing, message);
    }

    /// Adds the fields of an object that stands within this one, under dotted names. False if it is none, which is a fault.
    pub(crate) fn open(&mut self, param: &str, value: Value) -> bool {
        let Value::Object(inner) = value else {
            self.fault(param, Code::ParameterInvalidFormat, "must be an object");
            return false;
        };
        self.left.extend(inner.into_iter().map(|(name, value)| (format!("{param}.{name}"), value)));
        true
    }

    /// Notes that a field which must be there is not, unless something else was wrong with it.
    pub(super) fn require<T>(&mut self, param: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.faults.iter().any(|fault| fault.param == param) {
            self.fault(param, Code::ParameterMissing, "is required");
        }
        value
    }

    /// The end: whatever was not taken is unknown.
    ///
    /// # Errors
    /// A problem with every fault, if there was one.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.left) {
            let param = if may_be_repeated(&name) { name.as_str() } else { "(unknown)" };
            self.fault(param, Code::ParameterUnknown, "is not a field of this call");
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::validation(self.faults)) }
    }

    fn fault(&mut self, param: &str, code: Code, message: impl Into<String>) {
        self.faults.push(Fault { param: param.to_owned(), code, message: message.into() });
    }
}
