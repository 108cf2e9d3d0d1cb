//! A string of an event, borrowed from it where it has no escapes. (`Option<Cow>` would be copied.)

use serde::Deserialize;
use std::borrow::Cow;

/// One string.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// What a field says that may be missing or null.
pub(super) fn said<'t>(text: &'t Option<Text<'_>>) -> Option<&'t str> {
    text.as_ref().map(|text| &*text.0)
}
