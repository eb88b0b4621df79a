//! Padding: so that a ciphertext's length says little about its text.
//!
//! `content || 0x80 || zeros`, up to 256 bytes or, above that, the next length that Padmé allows
//! (Nikitin et al., 2019: at most 12 % more, and only O(log log n) bits of the length show).

/// The shortest padded length, in bytes.
pub(crate) const FLOOR: usize = 256;

const MARK: u8 = 0x80;

/// The Padmé length for at least `length` bytes, at least [`FLOOR`].
pub(crate) fn padded_length(length: usize) -> usize {
    let Some(exponent) = length.checked_ilog2().filter(|_| length > FLOOR) else {
        return FLOOR;
    };
    let digits = exponent.checked_ilog2().unwrap_or(0).saturating_add(1);
    let free = exponent.saturating_sub(digits);
    let mask = 1_usize.checked_shl(free).unwrap_or(1).saturating_sub(1);
    length.saturating_add(mask) & !mask
}

/// Pads a content.
pub(crate) fn pad(content: &[u8]) -> zeroize::Zeroizing<Vec<u8>> {
    let length = padded_length(content.len().saturating_add(1));
    let mut padded = zeroize::Zeroizing::new(Vec::with_capacity(length));
    padded.extend_from_slice(content);
    padded.push(MARK);
    padded.resize(length, 0);
    padded
}

/// Takes the padding away; `None` unless it is the one that [`pad`] makes.
pub(crate) fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let end = padded.iter().rposition(|byte| *byte != 0)?;
    let (content, rest) = padded.split_at_checked(end)?;
    let right = rest.first() == Some(&MARK) && padded_length(end.saturating_add(1)) == padded.len();
    right.then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_padmes() {
        for (length, padded) in
            [(1, 256), (256, 256), (257, 272), (1000, 1024), (10_000, 10_240), (65_000, 65_536)]
        {
            assert_eq!(padded_length(length), padded, "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_padded_comes_back(content in prop::collection::vec(any::<u8>(), 0..5000)) {
            let padded = pad(&content);
            prop_assert_eq!(unpad(&padded), Some(content.as_slice()));
            prop_assert_eq!(unpad(&padded[..padded.len() - 1]), None);
        }

        #[test]
        fn garbage_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = unpad(&bytes);
        }
    }
}
