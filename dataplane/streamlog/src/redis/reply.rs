//! Answers of Redis, taken apart.

use redis::Value;

/// A string, however it was sent.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        _ => None,
    }
}

/// A text; `None` for anything else.
pub(super) fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

/// A number, also one that was sent as a string.
pub(super) fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        other => text(other)?.parse().ok(),
    }
}

/// The items of a list, a set or a map (keys and values in turn).
pub(super) fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(key, value)| [key, value]).collect(),
        _ => Vec::new(),
    }
}

/// The server's `TIME` in milliseconds.
pub(super) fn milliseconds(value: Value) -> Option<u64> {
    let mut parts = items(value).into_iter();
    let (seconds, micros) = (number(parts.next()?)?, number(parts.next()?)?);
    Some(seconds * 1_000 + micros / 1_000)
}
