//! Reading a body: bounded in size and time, JSON, an object.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::problem::{Code, Problem};

/// Largest body that is read.
pub const MOST_BODY_BYTES: usize = 64 << 10;
/// Longest that a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The bytes of a JSON body.
///
/// # Errors
/// A problem for another media type, any content encoding, a body too large, too slow or broken off.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    read_most(headers, body, MOST_BODY_BYTES).await
}

/// The bytes of a JSON body of another largest size.
///
/// # Errors
/// As for [`read`].
pub async fn read_most(headers: &HeaderMap, body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    check_type(headers)?;
    collect(body, most).await
}

/// The bytes of a JSON body, or none: then its type does not matter.
///
/// # Errors
/// As for [`read`].
pub async fn read_if_any(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let bytes = collect(body, MOST_BODY_BYTES).await?;
    if !bytes.is_empty() {
        check_type(headers)?;
    }
    Ok(bytes)
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    let is_json = match (media_types.next(), media_types.next()) {
        (Some(only), None) => only.to_str().is_ok_and(|text| {
            text.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
        }),
        (Some(_), Some(_)) | (None, _) => false,
    };
    if !is_json || headers.contains_key(CONTENT_ENCODING) {
        let message = "Send the body as `Content-Type: application/json`, without a `Content-Encoding`.";
        return Err(Problem::new(Code::MediaTypeUnsupported, message));
    }
    Ok(())
}

async fn collect(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let collected = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, most).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(Code::BodyTooLarge, format!("Send at most {most} bytes.")))
        }
        Ok(Err(_)) => Err(malformed()),
        Err(_elapsed) => Err(Problem::new(Code::RequestTimeout, "The body did not arrive in time. Send it again.")),
    }
}

/// The problem of a body that is not JSON.
pub(super) fn malformed() -> Problem {
    Problem::param(Code::ParameterInvalidFormat, "body", "The body is not valid JSON. Send one JSON object.")
}

/// A JSON object with its fields in order; unlike a map it keeps what was sent twice.
#[derive(Debug, PartialEq)]
pub struct Object(pub Vec<(String, Value)>);

/// Parses a body.
///
/// # Errors
/// A problem if it is not JSON, not an object, or if an object within it has a field twice: of such fields one reader takes the first
/// and another the last.
pub fn parse(bytes: &[u8]) -> Result<Object, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(_) if serde_json::from_slice::<HashMap<String, Distinct>>(bytes).is_err() => {
            Err(Problem::param(Code::ParameterInvalidFormat, "body", "A field is there more than once."))
        }
        Ok(object) => Ok(object),
        Err(error) if error.is_data() => {
            let fault = super::problem::Fault {
                param: "body".to_owned(),
                code: Code::ParameterInvalidFormat,
                message: "must be one JSON object".to_owned(),
            };
            Err(Problem::validation(vec![fault]))
        }
        Err(_) => Err(malformed()),
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }

        from.deserialize_map(Fields)
    }
}

/// What is sent as an object. A list of the fields' values, which serde would take for one, is none.
pub struct AsObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AsObject<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = AsObject<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AsObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(AsObject)
            }
        }

        from.deserialize_map(Fields(PhantomData))
    }
}

/// Any JSON in which no object has a field twice.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON in which no field is there twice")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, _)) = map.next_entry::<String, Self>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a field is there twice"));
            }
        }
        Ok(self)
    }
}
