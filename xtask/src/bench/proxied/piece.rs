//! The text of one chunk: whose it is, its place, and when the provider wrote it. Pure.

/// Each text has so many bytes, so that all chunks are alike.
const BYTES: usize = 22;

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Number of the stream, below 100.
    pub(super) stream: u32,
    /// Place in its answer from 0 on, below 10,000.
    pub(super) place: u32,
    /// When it was written, in nanoseconds of the bench's clock; below 10^13, almost three hours.
    pub(super) at: u64,
}

impl Piece {
    /// As it stands in a chunk: digits and blanks, which mean the same in JSON and out of it.
    pub(super) fn text(self) -> String {
        let Self { stream, place, at } = self;
        format!("{stream:02} {place:04} {at:013} ")
    }

    /// `None`: a provider of ours did not write that.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != BYTES {
            return None;
        }
        let mut parts = text.strip_suffix(' ')?.split(' ');
        let piece = Self {
            stream: parts.next()?.parse().ok()?,
            place: parts.next()?.parse().ok()?,
            at: parts.next()?.parse().ok()?,
        };
        (piece.text() == text).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_was_written_and_always_as_long() {
        for (stream, place, at) in [(0, 0, 0), (19, 525, 123), (99, 9_999, 9_999_999_999_999)] {
            let piece = Piece { stream, place, at };
            assert_eq!(piece.text().len(), BYTES);
            assert_eq!(Piece::parse(&piece.text()), Some(piece));
        }
    }

    #[test]
    fn what_was_cut_or_joined_is_no_piece() {
        let text = Piece { stream: 7, place: 12, at: 34 }.text();
        for wrong in [&text[1..], &text[..21], &(text.clone() + &text), "", &text.replace('7', "x")]
        {
            assert_eq!(Piece::parse(wrong), None, "{wrong:?}");
        }
    }
}
