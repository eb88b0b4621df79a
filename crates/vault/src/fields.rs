//! Reading what [`Canonical`](mildam_records::Canonical) wrote: fields preceded by their length.

/// Takes fields off the front of a byte string. Every method answers `None` once the bytes are
/// not what was expected.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn integer(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes()?.try_into().ok()?))
    }

    pub(crate) fn optional(&mut self) -> Option<Option<&'a [u8]>> {
        let (presence, rest) = self.0.split_first()?;
        self.0 = rest;
        match presence {
            0 => Some(None),
            1 => self.bytes().map(Some),
            _ => None,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may be left over.
    pub(crate) fn end(self) -> Option<()> {
        self.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use mildam_records::Canonical;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let bytes = Canonical::element()
            .integer(7)
            .text("가나")
            .optional(None)
            .optional(Some(b"x"))
            .bytes(&[])
            .into_bytes();
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.integer(), Some(7));
        assert_eq!(fields.text(), Some("가나"));
        assert_eq!(fields.optional(), Some(None));
        assert_eq!(fields.optional(), Some(Some(&b"x"[..])));
        assert_eq!(fields.bytes(), Some(&[][..]));
        assert!(fields.end().is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut fields = Fields::new(&bytes);
            let _ = fields.optional();
            let _ = fields.integer();
            while fields.bytes().is_some() {}
        }
    }
}
